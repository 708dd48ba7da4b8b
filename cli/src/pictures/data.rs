//! The numbers of the pictures. Whatever the f64 reference computes comes from it: rotations, scores, biases.

use ropewalk::systems::{Stretch, System, Term, systems};
use ropewalk::{
    Absolute, Angle, Bias, Columns, Denominator, Embed, EmbedInputs, Error, IndexMap, Inputs, Pairing, Positions,
    RelativeSide, Result, Rotary, Spec, Tensor, phase, reference,
};
use serde::Serialize;
use std::f64::consts::PI;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "program", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The encoding: position by dimension
    Encoding,
    /// The similarity of the encodings of two positions
    Similarity,
    /// The bias of a head: query by key
    Bias,
    /// The decay of rotary scores with distance, for each length extension
    Decay,
    /// The error of angles with position: float32 and exact phase
    Phase,
}

impl Kind {
    /// As an argument.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Encoding => "encoding",
            Kind::Similarity => "similarity",
            Kind::Bias => "bias",
            Kind::Decay => "decay",
            Kind::Phase => "phase",
        }
    }
}

/// Numbers that the commands' options set; `None`: a default for the kind.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Positions, or queries and keys.
    pub positions: Option<u32>,
    /// Elements that rotate, or dimensions of the encoding.
    pub dims: Option<u32>,
    /// The head whose bias is drawn.
    pub head: u32,
    /// The base of the frequencies.
    pub theta: f64,
    /// The length of training in tokens.
    pub trained: u32,
    /// The extended length divided by the trained one.
    pub factor: f64,
}

/// An axis: what it shows, in which unit, and whether it is logarithmic.
#[derive(Debug, Clone, Serialize)]
pub struct Axis {
    pub label: String,
    pub log: bool,
}

/// A matrix of values; NaN (null in JSON) where nothing is visible.
#[derive(Debug, Clone, Serialize)]
pub struct Heat {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    /// What a value is.
    pub value: String,
    pub columns: usize,
    pub rows: usize,
    /// Row-major.
    pub values: Vec<f64>,
    /// Both signs mean something, and 0 lies between them.
    pub signed: bool,
}

/// One curve.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

/// A straight line that says where something is: at an x, or at a y.
#[derive(Debug, Clone, Serialize)]
pub struct Mark {
    pub label: String,
    pub x: Option<f64>,
    pub y: Option<f64>,
}

/// A point with a name.
#[derive(Debug, Clone, Serialize)]
pub struct Dot {
    pub label: String,
    pub x: f64,
    pub y: f64,
}

/// Curves over one axis.
#[derive(Debug, Clone, Serialize)]
pub struct Curves {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    pub marks: Vec<Mark>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dots: Vec<Dot>,
}

/// One panel of a picture.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Panel {
    Heat(Heat),
    Curves(Curves),
}

/// The kinds that a system has, the one it is drawn as by default first.
pub fn kinds(system: &System) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if system.name == "sinusoidal" {
        kinds.extend([Kind::Encoding, Kind::Similarity]);
    }
    let Some(spec) = system.spec().filter(|_| system.supported()) else {
        return kinds;
    };
    let rows = spec.relative.iter().any(|r| r.side != RelativeSide::Value);
    if rows || !spec.bias.is_empty() {
        kinds.push(Kind::Bias);
    }
    // where a rotation is all, it is worth a picture
    let Some(rotary) = spec.rotary.filter(|_| system.terms == [Term::Rotation]) else {
        return kinds;
    };
    match rotary.streams.is_empty() {
        true => kinds.extend([Kind::Encoding, Kind::Similarity]),
        false => kinds.push(Kind::Similarity),
    }
    if system.scaling(Stretch { rotary_dim: 32, trained: 256, factor: 4.0 }).is_some() {
        let first = if system.name == "rope" { kinds.len() } else { 0 };
        kinds.insert(first, Kind::Decay);
        kinds.push(Kind::Phase);
    }
    kinds
}

/// The systems that have a picture.
pub fn drawable() -> Vec<&'static System> {
    systems().iter().filter(|s| !kinds(s).is_empty()).collect()
}

/// The panels of some systems, each drawn as the given kind or as its own; curves of several systems share a panel.
pub fn panels(systems: &[&System], kind: Option<Kind>, options: &Options) -> Result<Vec<Panel>> {
    check(options)?;
    let mut panels = Vec::new();
    let mut decaying = Vec::new();
    let mut turning = Vec::new();
    for system in systems {
        let kinds = kinds(system);
        let own = match kind {
            Some(kind) if kinds.contains(&kind) => kind,
            Some(kind) => return Err(no_picture(system, &kinds, Some(kind))),
            None => *kinds.first().ok_or_else(|| no_picture(system, &kinds, None))?,
        };
        match own {
            Kind::Encoding => panels.push(Panel::Heat(encoding(system, options)?)),
            Kind::Similarity => panels.push(Panel::Heat(similarity(system, options)?)),
            Kind::Bias => panels.push(Panel::Heat(bias(system, options)?)),
            Kind::Decay => decaying.push(*system),
            Kind::Phase => turning.push(*system),
        }
    }
    if !decaying.is_empty() {
        panels.push(Panel::Curves(decay(&decaying, options)?));
    }
    if !turning.is_empty() {
        panels.push(Panel::Curves(phase_error(&turning, options)?));
    }
    Ok(panels)
}

fn no_picture(system: &System, kinds: &[Kind], wanted: Option<Kind>) -> Error {
    let name = |kind: &Kind| kind.name().to_string();
    let kinds: Vec<String> = kinds.iter().map(name).collect();
    let problem = match wanted {
        Some(kind) if !kinds.is_empty() => format!("has no picture of kind {}", name(&kind)),
        _ => "has no picture".to_string(),
    };
    let help = match kinds.is_empty() {
        true => format!("these have: {}", drawable().iter().map(|s| s.name).collect::<Vec<_>>().join(", ")),
        false => format!("it has: {}", kinds.join(", ")),
    };
    Error::input(format!("SYSTEM {}", system.name), problem, help)
}

/// What options allow: pictures that can be read, and finite numbers.
fn check(options: &Options) -> Result<()> {
    let range = |name: &str, value: Option<u32>, from: u32, to: u32| match value {
        Some(n) if !(from..=to).contains(&n) => {
            Err(Error::input(name, format!("is {n}"), format!("give {from} to {to}")))
        }
        _ => Ok(()),
    };
    range("--positions", options.positions, 2, 1024)?;
    range("--dims", options.dims, 4, 256)?;
    range("--trained", Some(options.trained), 16, 1 << 20)?;
    if options.dims.is_some_and(|d| d % 2 == 1) {
        return Err(Error::input("--dims", "is odd", "give an even number: dimensions turn in pairs"));
    }
    let number = |name: &str, x: f64, from: f64, to: f64| match (from..=to).contains(&x) {
        true => Ok(()),
        false => Err(Error::input(name, format!("is {x}"), format!("give {from} to {to}"))),
    };
    number("--theta", options.theta, 1.5, 1e12)?;
    number("--factor", options.factor, 1.0, 1024.0)
}

fn axis(label: &str) -> Axis {
    Axis { label: label.into(), log: false }
}

/// The rotation of a system over `dims` elements.
fn rotary(system: &System, dims: u32, options: &Options) -> Result<Rotary> {
    let stretch = Stretch { rotary_dim: dims, trained: options.trained, factor: options.factor };
    match (system.scaling(stretch), system.spec().and_then(|s| s.rotary)) {
        (Some(scaling), _) => Rotary::scaled(Pairing::Half, dims, options.theta, &scaling),
        (None, Some(mut own)) => {
            let plain = Rotary::new(own.pairing, dims, options.theta);
            (own.rotary_dim, own.offset, own.frequencies) = (dims, 0, plain.frequencies);
            own.streams = own.streams.iter().copied().cycle().take(dims as usize / 2).collect();
            Ok(own)
        }
        (None, None) => Err(no_picture(system, &kinds(system), None)),
    }
}

/// cos and sin of every pair at some positions, `[position][pair]`: what the reference makes of queries of (1, 0).
fn turned(rotary: &Rotary, positions: &[i32]) -> Result<Vec<(f64, f64)>> {
    let dim = rotary.rotary_dim;
    let mut spec = Spec::new(1, 1, dim);
    spec.rotary = Some(rotary.clone());
    spec.positions = Positions::Ids;
    let first = |e: u32| if rotary.pairing == Pairing::Half { e < dim / 2 } else { e.is_multiple_of(2) };
    let n = positions.len() as u32;
    let row: Vec<f32> = (0..dim).map(|e| f32::from(first(e))).collect();
    let k = Tensor::bshd(row.repeat(positions.len()), [1, n, 1, dim])?;
    let mut inputs = Inputs::new(k.clone(), k.clone(), k);
    inputs.q_positions = Some(positions.to_vec());
    inputs.k_positions = Some(positions.to_vec());
    let (rotated, _) = reference::rotate(&spec, &inputs)?;
    let half = (dim / 2) as usize;
    let pairs = rotated.chunks(dim as usize).flat_map(|row| {
        let (near, far) = row.split_at(half);
        match rotary.pairing {
            Pairing::Interleaved => row.chunks(2).filter_map(|p| Some((*p.first()?, *p.get(1)?))).collect::<Vec<_>>(),
            _ => near.iter().copied().zip(far.iter().copied()).collect(),
        }
    });
    Ok(pairs.collect())
}

/// The first `n` positions.
fn count(n: u32) -> Vec<i32> {
    (0..n as i32).collect()
}

/// Sines and cosines of a sinusoidal encoding, interleaved, `[position][dimension]`: what the reference adds to zeros.
fn sinusoidal(positions: u32, dims: u32, options: &Options) -> Result<Vec<f64>> {
    let mut embed = Embed::sinusoidal(dims, Columns::Interleaved, Denominator::Half);
    if let Absolute::Sinusoidal { base, .. } = &mut embed.positions {
        *base = options.theta;
    }
    let x = Tensor::bshd(vec![0.0; (positions * dims) as usize], [1, positions, 1, dims])?;
    reference::embed(&embed, &EmbedInputs::new(x, count(positions)))
}

/// Position by dimension.
pub fn encoding(system: &System, options: &Options) -> Result<Heat> {
    let (positions, dims) = (options.positions.unwrap_or(96), options.dims.unwrap_or(64));
    let (values, columns) = match system.terms.contains(&Term::Embed) {
        true => (sinusoidal(positions, dims, options)?, "dimension (even: sine, odd: cosine)"),
        false => {
            let turned = turned(&rotary(system, dims, options)?, &count(positions))?;
            let rows = turned.chunks(dims as usize / 2);
            let values =
                rows.flat_map(|row| row.iter().map(|p| p.0).chain(row.iter().map(|p| p.1)).collect::<Vec<_>>());
            (values.collect(), "pair: cosines, then sines")
        }
    };
    Ok(Heat {
        title: format!("{}: encoding", system.title),
        x: axis(columns),
        y: axis("position (tokens)"),
        value: "value".into(),
        columns: dims as usize,
        rows: positions as usize,
        values,
        signed: true,
    })
}

/// The encodings' inner products, 1 on the diagonal.
pub fn similarity(system: &System, options: &Options) -> Result<Heat> {
    let (mut positions, dims) = (options.positions.unwrap_or(96), options.dims.unwrap_or(64));
    let mut place = Placement { tokens: positions, label: "position (tokens)", positions: Vec::new() };
    let values = match system.terms.contains(&Term::Embed) {
        true => {
            let encoding = sinusoidal(positions, dims, options)?;
            let rows: Vec<&[f64]> = encoding.chunks(dims as usize).collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / (dims as f64 / 2.0);
            rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b)).collect::<Vec<_>>()).collect()
        }
        false => {
            let mut spec = Spec::new(1, 1, dims);
            let mut rotary = rotary(system, dims, options)?;
            rotary.attention_factor = 1.0;
            (spec.rotary, spec.softmax_scale) = (Some(rotary), Some(1.0 / dims as f64));
            place = Placement::new(&spec, spec.position_streams(), positions);
            positions = place.tokens;
            let ones = Tensor::bshd(vec![1.0; (positions * dims) as usize], [1, positions, 1, dims])?;
            let inputs = place.inputs(&mut spec, ones.clone(), ones)?;
            reference::scores(&spec, &inputs)?
        }
    };
    Ok(Heat {
        title: format!("{}: similarity of positions", system.title),
        x: axis(place.label),
        y: axis(place.label),
        value: "similarity (1: the same position)".into(),
        columns: positions as usize,
        rows: positions as usize,
        values,
        signed: false,
    })
}

/// What the terms of position add to the scores of a head. Learned tables have no values before training: they hold the
/// number of each row, so that the picture is the index map r(m, n).
pub fn bias(system: &System, options: &Options) -> Result<Heat> {
    let own = system.spec().ok_or_else(|| no_picture(system, &kinds(system), None))?;
    if options.head >= own.num_heads {
        let help = format!("give 0 to {}", own.num_heads - 1);
        return Err(Error::input("--head", format!("is {}", options.head), help));
    }
    // the terms of position alone; of several relative tables the first
    let mut spec = Spec::new(own.num_heads, own.num_heads, own.head_dim);
    (spec.bias, spec.mask, spec.softmax_scale) = (own.bias, own.mask, Some(1.0));
    spec.mask.dense = false;
    let mut tables = own.relative.iter().filter(|r| r.side != RelativeSide::Value);
    let table = tables.next().copied();
    spec.relative.extend(table.map(|mut t| {
        (t.per_head, t.query_bias, t.own, t.scale) = (false, false, None, Some(1.0));
        t
    }));
    let streams = system.spec().map_or(1, |own| own.position_streams());
    let place = Placement::new(&spec, streams, options.positions.unwrap_or(if streams > 1 { 50 } else { 64 }));
    let n = place.tokens;
    // (1, 0, ..) on the side that reads the relative table, 0 on the other
    let rows = |one: bool| -> Result<Tensor> {
        let row: Vec<f32> = (0..spec.head_dim).map(|e| f32::from(one && e == 0)).collect();
        Tensor::bshd(row.repeat((n * spec.num_heads) as usize), [1, n, spec.num_heads, spec.head_dim])
    };
    let side = table.map(|t| t.side);
    let (q, k) = (rows(side == Some(RelativeSide::Key))?, rows(side == Some(RelativeSide::Query))?);
    let mut inputs = place.inputs(&mut spec, q, k)?;
    let parameters = spec.parameters();
    for parameter in &parameters {
        let (rows, width) = (parameter.shape.first().copied().unwrap_or_default(), parameter.shape.iter().skip(1));
        let width = width.product::<u32>() as usize;
        let row =
            |r: u32| -> Vec<f32> { (0..width).map(|e| invented(&parameter.name, r as usize, e, width)).collect() };
        inputs.parameters.insert(parameter.name.clone(), (0..rows).flat_map(row).collect());
    }
    let scores = reference::scores(&spec, &inputs)?;
    let head = scores.chunks((n * n) as usize).nth(options.head as usize).unwrap_or_default();
    let learned = parameters.iter().any(|p| p.name.starts_with("relative") || p.name.starts_with("bias_table"));
    let first = if tables.next().is_some() { "first " } else { "" };
    Ok(Heat {
        title: match learned {
            true => format!("{}: rows of the {first}table", system.title),
            false => format!("{}: bias of head {}", system.title, options.head),
        },
        x: axis(&format!("key {}", place.label)),
        y: axis(&format!("query {}", place.label)),
        value: match (learned, parameters.is_empty()) {
            (true, _) => "row r(m, n) of the learned table",
            (false, true) => "added to the score",
            (false, false) => "added to the score (invented weights)",
        }
        .into(),
        columns: n as usize,
        rows: n as usize,
        values: head.iter().map(|s| if s.is_finite() { *s } else { f64::NAN }).collect(),
        signed: false,
    })
}

/// Element e of row r of a learned tensor, for pictures: tables number their rows; KERPLE's heads fall more and more slowly;
/// Swin v2's network falls with the logarithm of the offset, FIRE's with its distance on the query's scale, by one unit a head.
fn invented(name: &str, r: usize, e: usize, width: usize) -> f32 {
    match name {
        "kerple_p" | "cpb_b1" => f32::from(name == "kerple_p"),
        "kerple_a" => 0.5f32.powi(2 * r as i32),
        // |dy| + |dx| by rectified ones
        "cpb_w1" => {
            [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].get(r % 4).and_then(|w| w.get(e)).copied().unwrap_or(0.0)
        }
        "fire_c" => 1.0,
        "fire_l" => 16.0,
        "fire_w1" => f32::from(r == 0),
        "fire_w2" => {
            if e == 0 {
                -8.0 * 0.5f32.powi(r as i32)
            } else {
                0.0
            }
        }
        "fire_b1" | "fire_b2" => 0.0,
        "cpb_w2" => -8.0 / width as f32,
        name if name.starts_with("relative") && e > 0 => 0.0,
        _ => r as f32,
    }
}

/// Where the tokens of a picture stand: one after the other, on a grid, or text around an image.
struct Placement {
    tokens: u32,
    label: &'static str,
    /// `[stream][token]`; empty: by index.
    positions: Vec<Vec<i32>>,
}

impl Placement {
    /// About so many tokens.
    fn new(spec: &Spec, streams: u32, tokens: u32) -> Self {
        let side = |n: u32| (n as f64).sqrt() as i32;
        let cells = |side: i32| (0..side * side).map(move |c| (c / side, c % side));
        let class = spec.bias.iter().any(|b| matches!(b, Bias::Indexed { index: IndexMap::Grid { class: true, .. } }));
        match streams {
            1 => Placement { tokens, label: "position (tokens)", positions: Vec::new() },
            2 => {
                let first = class.then_some((-1, -1));
                // the windows of the table
                let most = if spec.rotary.is_some() { i32::MAX } else { 7 };
                let all: Vec<(i32, i32)> =
                    first.into_iter().chain(cells(side(tokens - class as u32).min(most))).collect();
                let positions = vec![all.iter().map(|c| c.0).collect(), all.iter().map(|c| c.1).collect()];
                let label = if class { "patch (row by row; 0: class token)" } else { "patch (row by row)" };
                Placement { tokens: all.len() as u32, label, positions }
            }
            _ => {
                // a third each: text, an image that is nearly square, text
                let (text, side) = (tokens as i32 / 3, side(tokens / 3));
                let before = (0..text).map(|p| [p, p, p]);
                let image = cells(side).map(|(row, column)| [text, text + row, text + column]);
                let after = (0..text).map(|p| [text + side + p; 3]);
                let all: Vec<[i32; 3]> = before.chain(image).chain(after).collect();
                let positions = (0..3).map(|s| all.iter().map(|p| p[s]).collect()).collect();
                Placement { tokens: all.len() as u32, label: "token (text, image, text)", positions }
            }
        }
    }

    /// Inputs of these tokens; v is k.
    fn inputs(&self, spec: &mut Spec, q: Tensor, k: Tensor) -> Result<Inputs> {
        let mut inputs = Inputs::new(q, k.clone(), k);
        if !self.positions.is_empty() {
            spec.positions = Positions::Ids;
            let read = self.positions.iter().take(spec.position_streams() as usize);
            inputs.q_positions = Some(read.flatten().copied().collect());
            inputs.k_positions = inputs.q_positions.clone();
        }
        Ok(inputs)
    }
}

/// RoFormer's bound on the score of two tokens at a distance (section 3.4.3): the mean over i of |sum_(p < i) e^(i f_p
/// distance)|, divided by its value at distance 0.
pub fn decay_bound(inv_freq: &[f64], distance: f64) -> f64 {
    let (mut re, mut im, mut sum) = (0.0f64, 0.0f64, 0.0);
    for f in inv_freq {
        let (sin, cos) = (f * distance).sin_cos();
        (re, im) = (re + cos, im + sin);
        sum += re.hypot(im);
    }
    let pairs = inv_freq.len() as f64;
    sum / (pairs * (pairs + 1.0) / 2.0)
}

/// Long-term decay up to twice the extended length. The bound flickers from one distance to the next: a point is the mean
/// over its neighbourhood, a quarter of the distance to either side.
pub fn decay(systems: &[&System], options: &Options) -> Result<Curves> {
    let dims = options.dims.unwrap_or(128);
    let end = options.trained as f64 * options.factor * 2.0;
    const STEPS: i32 = 72;
    let mut distances: Vec<f64> = (0..=STEPS).map(|i| end.powf(i as f64 / STEPS as f64).round()).collect();
    distances.dedup();
    let line = |system: &&System| -> Result<Line> {
        let inv_freq = rotary(system, dims, options)?.inv_freq();
        let mean = |distance: f64| -> f64 {
            let (from, to) = ((distance * 0.75).ceil(), (distance * 1.25).floor());
            let all = to - from + 1.0;
            let count = all.min(400.0) as u32;
            // all of them; of many, some that are spread evenly but keep no beat with a frequency
            let at = |i: u32| {
                if all <= 400.0 { from + i as f64 } else { (from + all * (i as f64 * 0.618_034).fract()).floor() }
            };
            (0..count).map(|i| decay_bound(&inv_freq, at(i))).sum::<f64>() / count as f64
        };
        let windows = distances.iter().map(|d| (*d, mean(*d)));
        let points = std::iter::once((0.0, decay_bound(&inv_freq, 0.0))).chain(windows).collect();
        let label = if system.name == "rope" { "RoPE, no extension" } else { system.title };
        Ok(Line { label: label.into(), points })
    };
    let extended = options.trained as f64 * options.factor;
    Ok(Curves {
        title: format!("Decay of rotary scores, {dims} dims, theta {}, factor {}", options.theta, options.factor),
        x: Axis { label: "distance m - n (tokens)".into(), log: true },
        y: axis("bound on scores (1 at distance 0)"),
        lines: systems.iter().map(line).collect::<Result<_>>()?,
        marks: vec![
            Mark { label: format!("trained: {}", options.trained), x: Some(options.trained as f64), y: None },
            Mark { label: format!("extended: {extended}"), x: Some(extended), y: None },
        ],
        dots: Vec::new(),
    })
}

/// The largest error over all pairs of angles at a position, in radians: of float32 angles and of the exact phase.
pub fn phase_error(systems: &[&System], options: &Options) -> Result<Curves> {
    let dims = options.dims.unwrap_or(128);
    let mut lines = Vec::new();
    // each point is the largest of a few neighbours, odd ones among them: powers of two are exact in float32
    const NEAR: i32 = 8;
    let first: Vec<i32> = (0..=240).map(|i| 2f64.powf(i as f64 / 8.0).round() as i32).collect();
    let mut first: Vec<i32> = first.into_iter().map(|p| p.min(i32::MAX - NEAR)).collect();
    first.dedup();
    let positions: Vec<i32> = first.iter().flat_map(|p| (0..NEAR).map(move |i| p + i)).collect();
    for system in systems {
        let mut exact = rotary(system, dims, options)?;
        exact.attention_factor = 1.0;
        let mut float = exact.clone();
        float.angle = Angle::Float32;
        let increments: Vec<u64> = exact.inv_freq().iter().map(|f| phase::increment(*f)).collect();
        let (truth, float) = (turned(&exact, &positions)?, turned(&float, &positions)?);
        let pairs = increments.len();
        let integer = positions.iter().flat_map(|p| {
            increments.iter().map(move |inc| {
                let angle = phase::phase(*p, *inc) as f64 * 2f64.powi(-31) * PI;
                (angle.cos(), angle.sin())
            })
        });
        let integer: Vec<(f64, f64)> = integer.collect();
        let largest = |angles: &[(f64, f64)]| -> Vec<(f64, f64)> {
            let errors: Vec<f64> = angles.iter().zip(&truth).map(|(a, t)| apart(*a, *t)).collect();
            let windows = errors.chunks(pairs * NEAR as usize).zip(&first);
            windows.map(|(w, p)| (*p as f64, w.iter().copied().fold(0.0, f64::max))).collect()
        };
        let name = |what: &str| match systems.len() {
            1 => what.to_string(),
            _ => format!("{}, {what}", system.title),
        };
        lines.push(Line { label: name("float32 angles"), points: largest(&float) });
        lines.push(Line { label: name("exact phase"), points: largest(&integer) });
    }
    Ok(Curves {
        title: format!("Error of rotary angles, {dims} dims, theta {}", options.theta),
        x: Axis { label: "position (tokens)".into(), log: true },
        y: Axis { label: "largest error of a pair (rad)".into(), log: true },
        lines,
        marks: vec![Mark { label: "WGSL's sin and cos: 2⁻¹¹".into(), x: None, y: Some(2f64.powi(-11)) }],
        dots: Vec::new(),
    })
}

/// The angle between two directions.
fn apart(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 * b.1 - a.1 * b.0).atan2(a.0 * b.0 + a.1 * b.1).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ropewalk::systems::system;
    use ropewalk::t5_bucket;

    fn options() -> Options {
        Options { positions: Some(40), dims: Some(32), head: 1, theta: 1e4, trained: 4096, factor: 8.0 }
    }

    fn named(name: &str) -> &'static System {
        system(name).unwrap_or_else(|| panic!("{name} is in the table"))
    }

    #[test]
    fn similarity_of_a_position_with_itself_is_one() {
        for name in ["sinusoidal", "rope", "yarn", "longrope"] {
            let heat = similarity(named(name), &options()).unwrap();
            for i in 0..40 {
                assert!((heat.values[i * 41] - 1.0).abs() < 1e-12, "{name} {i}: {}", heat.values[i * 41]);
            }
            assert!(heat.values.iter().all(|v| *v < 1.0 + 1e-12));
            assert!(heat.values[1] < 0.99 && (heat.values[1] - heat.values[40]).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn encodings_are_sines_and_cosines() {
        let heat = encoding(named("sinusoidal"), &options()).unwrap();
        let f = 1e4f64.powf(-2.0 * 3.0 / 32.0);
        assert!((heat.values[7 * 32 + 6] - (7.0 * f).sin()).abs() < 1e-12);
        assert!((heat.values[7 * 32 + 7] - (7.0 * f).cos()).abs() < 1e-12);
        let heat = encoding(named("rope"), &options()).unwrap();
        assert!((heat.values[7 * 32 + 3] - (7.0 * f).cos()).abs() < 1e-12);
        assert!((heat.values[7 * 32 + 16 + 3] - (7.0 * f).sin()).abs() < 1e-12);
        let linear = encoding(named("linear"), &options()).unwrap();
        assert!((linear.values[7 * 32 + 3] - (7.0 * f / 8.0).cos()).abs() < 1e-12);
    }

    #[test]
    fn biases_are_those_of_the_systems() {
        let t5 = bias(named("t5"), &Options { positions: Some(300), ..options() }).unwrap();
        let alibi = bias(named("alibi"), &options()).unwrap();
        for (m, n) in [(0, 0), (0, 299), (299, 0), (10, 9), (10, 11), (200, 150), (3, 130)] {
            assert_eq!(t5.values[m * 300 + n], t5_bucket(n as i32 - m as i32, 32, 128, true) as f64, "{m} {n}");
        }
        // head 1 of 4: the second slope, 2^-4
        assert_eq!(alibi.values[30 * 40 + 10], -20.0 / 16.0);
        assert!(alibi.values[10 * 40 + 11].is_nan(), "hidden by the causal mask");
    }

    #[test]
    fn decay_starts_at_one_and_stretches() {
        let names = ["rope", "linear", "ntk", "dynamic", "yarn", "longrope", "llama3"];
        let systems: Vec<&System> = names.iter().map(|n| named(n)).collect();
        let curves = decay(&systems, &options()).unwrap();
        for line in &curves.lines {
            assert_eq!(line.points[0].0, 0.0);
            assert!((line.points[0].1 - 1.0).abs() < 1e-12, "{}", line.label);
            assert!(line.points.iter().all(|p| p.1 <= 1.0 + 1e-12 && p.1 > 0.0), "{}", line.label);
            assert!(line.points.last().unwrap().1 < 0.5, "{}", line.label);
        }
        // interpolation by 8 is the plain curve at an eighth of the distance
        let plain = Rotary::new(Pairing::Half, 32, 1e4).inv_freq();
        let divided: Vec<f64> = plain.iter().map(|f| f / 8.0).collect();
        assert!((decay_bound(&divided, 65536.0) - decay_bound(&plain, 8192.0)).abs() < 1e-12);
        for (line, inv_freq) in [(0, &plain), (1, &divided)] {
            assert_eq!(curves.lines[line].points[1], (1.0, decay_bound(inv_freq, 1.0)));
            let near = (3..=5).map(|d| decay_bound(inv_freq, d as f64)).sum::<f64>() / 3.0;
            let four = curves.lines[line].points.iter().find(|p| p.0 == 4.0).unwrap();
            assert!((four.1 - near).abs() < 1e-12, "mean over 3 to 5");
        }
        // two pairs, by hand: (|1| + |1 + e^i|) / 3 with frequencies 0 and 1
        let two = decay_bound(&[0.0, 1.0], 1.0);
        assert!((two - (1.0 + 2.0 * 0.5f64.cos()) / 3.0).abs() < 1e-12, "{two}");
    }

    #[test]
    fn float32_angles_err_as_documented() {
        let options = Options { dims: Some(128), ..options() };
        let curves = phase_error(&[named("rope")], &options).unwrap();
        let at = |line: usize, x: f64| curves.lines[line].points.iter().find(|p| p.0 == x).unwrap().1;
        // 7.8e-3 rad is the largest below 131 072; here the largest of eight positions from there on
        assert!((2e-3..1.2e-2).contains(&at(0, 131072.0)), "{}", at(0, 131072.0));
        assert!((1e-2..7e-2).contains(&at(0, 1048576.0)), "{}", at(0, 1048576.0));
        for (x, e) in &curves.lines[1].points {
            // cut to 32 bits of a turn, from an increment rounded to 64
            let bound = 2.0 * PI * (2f64.powi(-32) + x * 2f64.powi(-65));
            assert!(*e <= bound * (1.0 + 1e-6), "exact phase at {x}: {e}");
        }
        assert!(curves.lines[0].points.last().unwrap().1 > 1.0);
    }

    #[test]
    fn every_kind_of_every_system_has_numbers() {
        for system in drawable() {
            for kind in kinds(system) {
                for panel in panels(&[system], Some(kind), &options()).unwrap() {
                    match panel {
                        Panel::Heat(h) => {
                            assert_eq!(h.values.len(), h.rows * h.columns, "{}", system.name);
                            let seen = h.values.iter().filter(|v| v.is_finite());
                            let (low, high) = seen.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
                            assert!(low < high, "{} {kind:?} is flat", system.name);
                        }
                        Panel::Curves(c) => assert!(c.lines.iter().all(|l| l.points.len() > 50), "{}", system.name),
                    }
                }
            }
        }
    }
}
