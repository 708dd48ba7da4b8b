//! A second computation of the equation, in f64, written from docs/equation.md and the documentation of the public types and from
//! nothing else: straight loops, formulas of its own. What it shares with the library is the types of a spec and its inputs.
//!
//! Every value comes with the size of what was added up for it: two right computations differ by a few roundings of that.
#![allow(dead_code)]

pub mod angle;
pub mod compare;
pub mod draw;
pub mod index;
mod linear;
pub mod scaling;
pub mod user;

use angle::{Rotation, Side};
pub use linear::linear;
use ropewalk::{
    Absolute, AlibiForm, Alignment, Bias, Branches, Columns, Denominator, Embed, EmbedInputs, Inputs, KerpleKind,
    NormKind, Placement, Relative, RelativeSide, Sink, Spec, Steps, Tensor,
};
use std::ops::Range;
use user::Place;

/// Scores and logits below it are taken as it: the f32 of -1e38.
const FLOOR: f64 = -1e38f32 as f64;

/// Two right computations may differ by this share of what was added up.
pub const SHARE: f64 = 1e-12;

/// A value and the size of what was added up for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sized {
    pub value: f64,
    pub size: f64,
}

impl Sized {
    /// A size that is unknown (beside what is not finite) is infinite: nothing is said of such a value.
    fn new(value: f64, size: f64) -> Self {
        Sized { value, size: if size.is_nan() { f64::INFINITY } else { size } }
    }
    fn add(&mut self, value: f64, size: f64) {
        *self = Sized::new(self.value + value, self.size + size);
    }
}

/// One sequence: its batch entry, its number, and its tokens in q and in k.
#[derive(Clone)]
struct Sequence {
    entry: usize,
    number: usize,
    queries: Range<usize>,
    keys: Range<usize>,
}

struct Twin<'a> {
    spec: &'a Spec,
    inputs: &'a Inputs,
    batch: usize,
    q_len: usize,
    capacity: usize,
    heads: usize,
    rotation: Option<Rotation<'a>>,
}

fn row(tensor: &Tensor, entry: usize, token: usize, head: usize) -> Vec<f64> {
    tensor.row(entry as u32, token as u32, head as u32).collect()
}

/// All heads of a token, one behind the other.
fn token_rows(tensor: &Tensor, entry: usize, token: usize) -> Vec<f64> {
    (0..tensor.shape()[2] as usize).flat_map(|head| row(tensor, entry, token, head)).collect()
}

/// Tokens of keys.
fn keys_of(inputs: &Inputs) -> usize {
    match (&inputs.placement, &inputs.cu_seqlens_k) {
        (Some(_), Some(starts)) => starts[starts.len() - 1] as usize,
        _ => inputs.k.shape()[1] as usize,
    }
}

/// A product of two rows: the sum, and the product of their lengths.
fn dot(a: &[f64], b: &[f64]) -> Sized {
    let mut sum = 0.0;
    for (x, y) in a.iter().zip(b) {
        sum += x * y;
    }
    Sized::new(sum, length(a) * length(b))
}

/// The length of a row, of what is finite in it.
fn length(a: &[f64]) -> f64 {
    let finite = || a.iter().filter(|x| x.is_finite());
    let most = finite().fold(0.0f64, |most, x| most.max(x.abs()));
    if most == 0.0 { 0.0 } else { most * finite().map(|x| (x / most) * (x / most)).sum::<f64>().sqrt() }
}

impl<'a> Twin<'a> {
    fn new(spec: &'a Spec, inputs: &'a Inputs) -> Self {
        let [batch, q_len, ..] = inputs.q.shape();
        Twin {
            spec,
            inputs,
            batch: batch as usize,
            q_len: q_len as usize,
            capacity: keys_of(inputs),
            heads: spec.num_heads as usize,
            rotation: spec.rotary.as_ref().map(|r| Rotation::new(r, inputs.angle_table.as_ref())),
        }
    }

    /// The row of k and v that a key token is: itself, or where the pool has it.
    fn key_row(&self, token: usize) -> usize {
        let Some(placement) = &self.inputs.placement else { return token };
        let starts = self.inputs.cu_seqlens_k.as_ref().expect("a pool's sequences are packed");
        let sequences = starts.len() - 1;
        let s = (0..sequences).find(|s| token < starts[s + 1] as usize).expect("a sequence has the token");
        let j = token - starts[s] as usize;
        match placement {
            Placement::Slots(slots) => slots[s] as usize + j,
            Placement::Pages { page_size, table } => {
                let (size, width) = (*page_size as usize, table.len() / sequences);
                table[s * width + j / size] as usize * size + j % size
            }
            other => panic!("the twin does not know {other:?}"),
        }
    }

    fn sequences(&self) -> Vec<Sequence> {
        if let (Some(q), Some(k)) = (&self.inputs.cu_seqlens_q, &self.inputs.cu_seqlens_k) {
            let one = |s: usize| Sequence {
                entry: 0,
                number: s,
                queries: q[s] as usize..q[s + 1] as usize,
                keys: k[s] as usize..k[s + 1] as usize,
            };
            return (0..q.len() - 1).map(one).collect();
        }
        let keys = |b: usize| match (&self.inputs.kv_lens, self.inputs.kv_len) {
            (Some(lens), _) => lens[b] as usize,
            (None, Some(n)) => n as usize,
            (None, None) => self.capacity,
        };
        (0..self.batch).map(|b| Sequence { entry: b, number: b, queries: 0..self.q_len, keys: 0..keys(b) }).collect()
    }

    /// i' of a query token.
    fn index(&self, s: &Sequence, token: usize) -> i64 {
        let i = (token - s.queries.start) as i64;
        match self.spec.mask.alignment {
            Alignment::TopLeft => i,
            Alignment::BottomRight => i + s.keys.len() as i64 - s.queries.len() as i64,
            other => panic!("the twin does not know {other:?}"),
        }
    }

    fn ids(ids: &[i32], batch: usize, entry: usize, len: usize, token: usize) -> [i64; 4] {
        let mut all = [0; 4];
        for (stream, position) in all.iter_mut().enumerate() {
            if let Some(id) = ids.get(stream * batch * len + entry * len + token) {
                *position = *id as i64;
            }
        }
        all
    }
    fn m(&self, s: &Sequence, token: usize) -> [i64; 4] {
        match &self.inputs.q_positions {
            Some(ids) => Self::ids(ids, self.batch, s.entry, self.q_len, token),
            None => [self.index(s, token); 4],
        }
    }
    fn n(&self, s: &Sequence, token: usize) -> [i64; 4] {
        match &self.inputs.k_positions {
            Some(ids) => Self::ids(ids, self.batch, s.entry, self.capacity, token),
            None => [(token - s.keys.start) as i64; 4],
        }
    }

    fn parameter(&self, name: &str) -> &'a [f32] {
        self.inputs.parameters.get(name).unwrap_or_else(|| panic!("no parameter {name}"))
    }

    /// One head's part of a parameter `[heads, dim]`.
    fn head_row(&self, name: &str, head: usize, dim: usize) -> Vec<f64> {
        self.parameter(name)[head * dim..(head + 1) * dim].iter().map(|x| *x as f64).collect()
    }

    fn turn(&self, row: Vec<f64>, positions: [i64; 4], side: Side, head: usize) -> Vec<f64> {
        match &self.rotation {
            Some(rotation) => rotation.turn(&row, positions, side, head),
            None => row,
        }
    }

    /// N of a row; `others` are all rows of its token.
    fn norm(&self, row: Vec<f64>, weights: &str, head: usize, others: Vec<f64>) -> Vec<f64> {
        let Some(norm) = &self.spec.norm else { return row };
        let over = if norm.all_heads { others } else { row.clone() };
        let mean = match norm.kind {
            NormKind::Layer => over.iter().sum::<f64>() / over.len() as f64,
            _ => 0.0,
        };
        let row: Vec<f64> = row.iter().map(|x| x - mean).collect();
        let first = if norm.all_heads || norm.weights_of_heads { head * row.len() } else { 0 };
        let squares: f64 = over.iter().map(|x| (x - mean) * (x - mean)).sum();
        let divisor = match norm.kind {
            NormKind::Rms | NormKind::Layer => (squares / over.len() as f64 + norm.eps).sqrt(),
            NormKind::L2 => squares.sqrt().max(norm.eps),
            other => panic!("the twin does not know {other:?}"),
        };
        if over.iter().any(|x| !x.is_finite()) {
            return vec![f64::NAN; row.len()];
        }
        if divisor == 0.0 {
            return row;
        }
        let weighted = |(d, x): (usize, &f64)| {
            x / divisor * if norm.weights { self.parameter(weights)[first + d] as f64 } else { 1.0 }
        };
        row.iter().enumerate().map(weighted).collect()
    }

    /// N and R of a row, with u if it is given.
    fn placed(
        &self,
        row: Vec<f64>,
        u: Option<Vec<f64>>,
        m: [i64; 4],
        side: Side,
        head: usize,
        others: Vec<f64>,
    ) -> Vec<f64> {
        let kv_head = if side == Side::Query { head / self.spec.group() as usize } else { head };
        let weights = if side == Side::Query { "q_norm" } else { "k_norm" };
        let after = self.spec.norm.is_some_and(|norm| norm.after_rotation);
        let mut x = if after { row } else { self.norm(row, weights, head, others) };
        for (x, u) in x.iter_mut().zip(u.unwrap_or_default()) {
            *x += u;
        }
        let turned = self.turn(x, m, side, kv_head);
        if after { self.norm(turned, weights, head, Vec::new()) } else { turned }
    }

    fn query(&self, s: &Sequence, token: usize, head: usize) -> Vec<f64> {
        let u = self.spec.content_bias.then(|| self.head_row("content_bias", head, self.spec.head_dim as usize));
        let others = token_rows(&self.inputs.q, s.entry, token);
        self.placed(row(&self.inputs.q, s.entry, token, head), u, self.m(s, token), Side::Query, head, others)
    }
    fn key(&self, s: &Sequence, token: usize, head: usize) -> Vec<f64> {
        let k = row(&self.inputs.k, s.entry, self.key_row(token), head);
        match self.spec.rotary.as_ref().is_some_and(|r| r.keys_rotated) {
            true => k,
            false => {
                let others = token_rows(&self.inputs.k, s.entry, self.key_row(token));
                self.placed(k, None, self.n(s, token), Side::Key, head, others)
            }
        }
    }
    /// q and k where the key is far, of a rotation in two branches.
    fn far(&self, s: &Sequence, head: usize, i: usize, j: usize) -> Option<[Vec<f64>; 2]> {
        let branches = self.spec.rotary.as_ref()?.branches?;
        let (m, n) = (self.m(s, i)[0], self.n(s, j)[0]);
        let floor = |x: i64, by: u32| (x as f64 / by as f64).floor() as i64;
        let (window, [at_q, at_k]) = match branches {
            Branches::Clipped { window } => (window, [window as i64, 0]),
            Branches::Grouped { window, group } => {
                (window, [floor(m, group) + window as i64 - floor(window as i64, group), floor(n, group)])
            }
            other => panic!("the twin does not know {other:?}"),
        };
        if m - n < window as i64 {
            return None;
        }
        let u = self.spec.content_bias.then(|| self.head_row("content_bias", head, self.spec.head_dim as usize));
        let (kv, key) = (head / self.spec.group() as usize, self.key_row(j));
        let of_q = token_rows(&self.inputs.q, s.entry, i);
        let of_k = token_rows(&self.inputs.k, s.entry, key);
        Some([
            self.placed(row(&self.inputs.q, s.entry, i, head), u, [at_q; 4], Side::Query, head, of_q),
            self.placed(row(&self.inputs.k, s.entry, key, kv), None, [at_k; 4], Side::Key, kv, of_k),
        ])
    }
    fn value(&self, s: &Sequence, token: usize, head: usize) -> Vec<f64> {
        let v = row(&self.inputs.v, s.entry, self.key_row(token), head);
        match self.spec.rotary.as_ref().is_some_and(|r| r.values) {
            true => self.turn(v, self.n(s, token), Side::Value, head),
            false => v,
        }
    }

    fn same_segment(&self, s: &Sequence, i: usize, j: usize) -> bool {
        match (&self.inputs.q_segments, &self.inputs.k_segments) {
            (Some(q), Some(k)) => q[s.entry * self.q_len + i] == k[s.entry * self.capacity + j],
            _ => false,
        }
    }

    fn at(&self, s: &Sequence, head: usize, i: usize, j: usize) -> Place {
        Place {
            batch: s.number as u32,
            head: head as u32,
            i: (i - s.queries.start) as u32,
            j: (j - s.keys.start) as u32,
            q_index: self.index(s, i) as i32,
            q_pos: self.m(s, i)[0] as i32,
            k_pos: self.n(s, j)[0] as i32,
        }
    }

    fn visible(&self, s: &Sequence, head: usize, i: usize, j: usize) -> bool {
        let mask = &self.spec.mask;
        let (at, key) = (self.index(s, i), (j - s.keys.start) as i64);
        if mask.causal && key > at {
            return false;
        }
        if mask.window_left.is_some_and(|left| key < at - left as i64) {
            return false;
        }
        if mask.window_right.is_some_and(|right| key > at + right as i64) {
            return false;
        }
        if mask.chunk.is_some_and(|chunk| key.div_euclid(chunk as i64) != at.div_euclid(chunk as i64)) {
            return false;
        }
        let place = [s.entry as u32, head as u32, i as u32, j as u32];
        if mask.dense && !self.inputs.mask.as_ref().expect("a mask").get(place) {
            return false;
        }
        if self.inputs.attn_bias.as_ref().is_some_and(|d| d.get(place) == f32::NEG_INFINITY) {
            return false;
        }
        self.inputs.mask_mod.is_none() || user::mask(self.spec, self.inputs, &self.at(s, head, i, j))
    }

    /// The row of a relative table at a place.
    fn relative_row(
        &self,
        number: usize,
        relative: &Relative,
        s: &Sequence,
        head: usize,
        i: usize,
        j: usize,
    ) -> Option<Vec<f64>> {
        let r = index::row(&relative.index, self.m(s, i), self.n(s, j), self.same_segment(s, i, j))?;
        let dim = match relative.side {
            RelativeSide::Value => self.spec.v_head_dim,
            _ => relative.own.unwrap_or(self.spec.head_dim),
        } as usize;
        let at = if relative.per_head { r * self.heads + head } else { r };
        let table = self.parameter(&format!("relative_{number}"));
        Some(table[at * dim..(at + 1) * dim].iter().map(|x| *x as f64).collect())
    }

    /// C of a head at a place, ungated, with the size of what was added up.
    fn bias(&self, s: &Sequence, head: usize, i: usize, j: usize) -> Sized {
        let mut sum = Sized::default();
        let (mut tables, mut nets, mut kernels, mut fires) = (0, 0, 0, 0);
        let (m, n) = (self.m(s, i), self.n(s, j));
        let d = index::distance(m[0], n[0]);
        let name = |name: &str, number: &mut u32| {
            *number += 1;
            if *number == 1 { name.to_string() } else { format!("{name}_{}", *number - 1) }
        };
        for bias in &self.spec.bias {
            let value = match bias {
                Bias::Table { min, max } => {
                    let rows = (*max as i64 - *min as i64 + 1) as usize;
                    let r = (d.clamp(*min as i64, *max as i64) - *min as i64) as usize;
                    self.parameter(&name("bias_table", &mut tables))[head * rows + r] as f64
                }
                Bias::T5 { num_buckets, max_distance, bidirectional } => {
                    let r = index::t5(d, *num_buckets, *max_distance, *bidirectional);
                    self.parameter(&name("bias_table", &mut tables))[r * self.heads + head] as f64
                }
                Bias::Alibi { form, slopes, scale } => {
                    let slope = match slopes {
                        Some(slopes) => slopes[head] as f64,
                        None => index::slopes(self.spec.num_heads)[head],
                    };
                    let distance = match form {
                        AlibiForm::Relative => d,
                        AlibiForm::Symmetric => -d.abs(),
                        AlibiForm::KeyPosition => n[0],
                        AlibiForm::KeyFromEnd => index::distance(s.keys.len() as i64 - 1, n[0]),
                        other => panic!("the twin does not know {other:?}"),
                    };
                    slope * scale * distance as f64
                }
                Bias::Indexed { index } => {
                    let name = name("bias_table", &mut tables);
                    match index::row(index, m, n, self.same_segment(s, i, j)) {
                        Some(r) => self.parameter(&name)[r * self.heads + head] as f64,
                        None => 0.0,
                    }
                }
                Bias::LogCpb { height, width, pretrained, hidden } => {
                    nets += 1;
                    let end = if nets == 1 { String::new() } else { format!("_{}", nets - 1) };
                    let [w1, b1, w2] = ["w1", "b1", "w2"].map(|part| self.parameter(&format!("cpb_{part}{end}")));
                    let (h, w) = (*height as i64, *width as i64);
                    let (dy, dx) = (m[0] - n[0], m[1] - n[1]);
                    if dy.abs() >= h || dx.abs() >= w {
                        0.0
                    } else {
                        let sides = pretrained.unwrap_or([*height, *width]);
                        let offset = [index::log_offset(dy, sides[0]), index::log_offset(dx, sides[1])];
                        let mut sum = 0.0;
                        for unit in 0..*hidden as usize {
                            let x =
                                w1[2 * unit] as f64 * offset[0] + w1[2 * unit + 1] as f64 * offset[1] + b1[unit] as f64;
                            // NaN stays
                            sum += w2[head * *hidden as usize + unit] as f64 * if x < 0.0 { 0.0 } else { x };
                        }
                        16.0 / (1.0 + (-sum).exp())
                    }
                }
                Bias::Fire { hidden, eps } => {
                    fires += 1;
                    let end = if fires == 1 { String::new() } else { format!("_{}", fires - 1) };
                    let one = |name: &str, at: usize| self.parameter(&format!("fire_{name}{end}"))[at] as f64;
                    let (c, least) = (one("c", 0).abs(), one("l", 0).abs());
                    let scale = (m[0] as f64).max(least);
                    let x = (1.0 + c * d.abs() as f64).ln() / ((1.0 + c * scale).ln() + *eps as f32 as f64);
                    let mut sum = one("b2", head);
                    for unit in 0..*hidden as usize {
                        let y = one("w1", unit) * x + one("b1", unit);
                        sum += one("w2", head * *hidden as usize + unit) * if y < 0.0 { 0.0 } else { y };
                    }
                    sum
                }
                Bias::Kerple { kind, eps } => {
                    kernels += 1;
                    let end = if kernels == 1 { String::new() } else { format!("_{}", kernels - 1) };
                    let learned = |name: &str| (self.parameter(&format!("kerple_{name}{end}"))[head] as f64).max(*eps);
                    let (p, a, d) = (learned("p"), learned("a"), d.abs() as f64);
                    match kind {
                        KerpleKind::Log => -p * (a * d).ln_1p(),
                        KerpleKind::Power => -a * d.powf(p.min(2.0)),
                        other => panic!("the twin does not know {other:?}"),
                    }
                }
                other => panic!("the twin does not know {other:?}"),
            };
            // far distances have large logarithms in their powers
            sum.add(value, value.abs() * 30.0);
        }
        sum
    }

    /// What the user's function receives or, without one, the score itself; and the sizes of what it is made of.
    fn score(&self, s: &Sequence, head: usize, i: usize, j: usize, q: &[f64], k: &[f64]) -> Sized {
        let spec = self.spec;
        let scale = spec.softmax_scale.unwrap_or(1.0 / (spec.head_dim as f64).sqrt());
        let product = match self.far(s, head, i, j) {
            Some([q, k]) => dot(&q, &k),
            None => dot(q, k),
        };
        let factor = scale
            * self.head_scale(head)
            * self.tau(s, head, i)
            * self.of_row(&self.inputs.query_scales, s, head, i, 1.0);
        let mut score = Sized::new(factor * product.value, factor.abs() * product.size);
        if let Some(cap) = spec.logits_soft_cap.filter(|_| !spec.soft_cap_last) {
            score.value = cap * (score.value / cap).tanh();
        }
        let kv = head / spec.group() as usize;
        for (number, relative) in spec.relative.iter().enumerate() {
            if relative.side == RelativeSide::Value {
                continue;
            }
            let Some(table) = self.relative_row(number, relative, s, head, i, j) else { continue };
            let mut x = match relative.side {
                RelativeSide::Key if relative.own.is_some() => {
                    let own = relative.own.expect("a query of its own") as usize;
                    let all = self.inputs.relative_queries.as_ref().expect("queries of A");
                    let at = ((s.entry * self.heads + head) * self.q_len + i) * own;
                    all[at..at + own].iter().map(|x| *x as f64).collect()
                }
                RelativeSide::Key => row(&self.inputs.q, s.entry, i, head),
                RelativeSide::Query => row(&self.inputs.k, s.entry, self.key_row(j), kv),
                other => panic!("the twin does not know {other:?}"),
            };
            if relative.query_bias {
                let v = self.head_row(&format!("relative_bias_{number}"), head, x.len());
                x.iter_mut().zip(v).for_each(|(x, v)| *x += v);
            }
            let product = dot(&x, &table);
            let scale = relative.scale.unwrap_or(scale);
            score.add(scale * product.value, scale.abs() * product.size);
        }
        if !spec.bias.is_empty() {
            let gate = match &self.inputs.gates {
                Some(gates) => gates[(s.entry * self.heads + head) * self.q_len + i],
                None => 1.0,
            };
            let bias = self.bias(s, head, i, j);
            score.add(gate * bias.value, gate.abs() * bias.size);
        }
        if let Some(dense) = &self.inputs.attn_bias {
            let d = dense.get([s.entry as u32, head as u32, i as u32, j as u32]) as f64;
            score.add(d, d.abs());
        }
        if let Some(c) = &self.inputs.key_bias {
            let at = |key: usize| c[(s.entry * self.heads + head) * self.capacity + key];
            let last = s.keys.len().max(1) as i64 - 1;
            let own = s.keys.start + self.index(s, i).clamp(0, last) as usize;
            score.add(at(own) - at(j), at(own).abs() + at(j).abs());
        }
        if let Some(cap) = spec.logits_soft_cap.filter(|_| spec.soft_cap_last) {
            score.value = cap * (score.value / cap).tanh();
        }
        if self.inputs.score_mod.is_some() && !score.value.is_nan() {
            // what the function makes of two right scores that differ
            let at = self.at(s, head, i, j);
            let of = |x: f64| user::score(spec, self.inputs, x, &at);
            let (value, off) = (of(score.value), SHARE * score.size);
            let moved = [-off, off].map(|off| (of(score.value + off) - value).abs()).into_iter().fold(0.0, f64::max);
            score = Sized::new(value, moved / SHARE + value.abs() + 100.0);
            if score.value == f64::INFINITY {
                score.value = f64::NAN;
            }
        }
        if score.value < FLOOR {
            // what is far below the floor is the floor, without an error
            let sure = score.value == f64::NEG_INFINITY || score.value + SHARE * score.size < FLOOR;
            score = Sized::new(FLOOR, if sure { 0.0 } else { score.size });
        }
        score
    }

    /// A number of a row, `[batch, heads, q_len]`.
    fn of_row(&self, all: &Option<Vec<f32>>, s: &Sequence, head: usize, i: usize, none: f64) -> f64 {
        all.as_ref().map_or(none, |all| all[(s.entry * self.heads + head) * self.q_len + i] as f64)
    }

    fn head_scale(&self, head: usize) -> f64 {
        if !self.spec.head_scale {
            return 1.0;
        }
        let given = self.parameter("head_scale")[head] as f64;
        match self.spec.head_scale_exp {
            Some(most) if given.is_nan() => given + most,
            Some(most) => given.min(most).exp(),
            None => given,
        }
    }

    fn tau(&self, s: &Sequence, head: usize, i: usize) -> f64 {
        let Some(t) = &self.spec.temperature else { return 1.0 };
        let of_head = |name: &str| if t.per_head { self.parameter(name)[head] as f64 } else { 1.0 };
        let (m, offset, floor) = (self.m(s, i)[0], t.offset as i64, t.floor as i64);
        let log = match t.steps {
            Steps::Floor if m < 0 => 0.0,
            Steps::Floor => (1.0 + ((m + offset) / floor) as f64).ln(),
            Steps::None { least } => {
                let x = if m < 0 { least as i64 } else { (m + offset).max(least as i64) };
                (x as f64).ln() - (floor as f64).ln()
            }
            other => panic!("the twin does not know {other:?}"),
        };
        t.base * of_head("temperature_base") + t.scale * of_head("temperature_scale") * log
    }
}

/// o and lse, `[batch, q_len, heads, v_dim]` and `[batch, heads, q_len]`; s, `[batch, heads, q_len, capacity]`.
pub struct Attention {
    pub out: Vec<Sized>,
    pub lse: Vec<Sized>,
    pub scores: Vec<Sized>,
}

pub fn attention(spec: &Spec, inputs: &Inputs) -> Attention {
    let twin = Twin::new(spec, inputs);
    let (heads, dim) = (twin.heads, spec.v_head_dim as usize);
    let rows = twin.batch * twin.q_len * heads;
    let mut all = Attention {
        out: vec![Sized::default(); rows * dim],
        lse: vec![Sized::default(); rows],
        scores: vec![Sized::new(f64::NEG_INFINITY, 0.0); rows * twin.capacity],
    };
    for s in twin.sequences() {
        for head in 0..heads {
            let kv = head / spec.group() as usize;
            let keys: Vec<Vec<f64>> = s.keys.clone().map(|j| twin.key(&s, j, kv)).collect();
            let values: Vec<Vec<f64>> = s.keys.clone().map(|j| twin.value(&s, j, kv)).collect();
            for i in s.queries.clone() {
                let q = twin.query(&s, i, head);
                let row = (s.entry * heads + head) * twin.q_len + i;
                let mut seen: Vec<(usize, Sized)> = vec![];
                for j in s.keys.clone() {
                    if twin.visible(&s, head, i, j) {
                        let score = twin.score(&s, head, i, j, &q, &keys[j - s.keys.start]);
                        all.scores[row * twin.capacity + j] = score;
                        seen.push((j, score));
                    }
                }
                let sink = spec.sink.map(|sink| match sink {
                    Sink::Zero => 0.0,
                    Sink::Learned => (twin.parameter("sinks")[head] as f64).max(FLOOR),
                    Sink::Query => twin.of_row(&inputs.query_sinks, &s, head, i, 0.0).max(FLOOR),
                    other => panic!("the twin does not know {other:?}"),
                });
                let to = ((s.entry * twin.q_len + i) * heads + head) * dim;
                let out = &mut all.out[to..to + dim];
                if seen.iter().any(|(_, s)| s.value.is_nan() || s.value == f64::INFINITY) {
                    out.fill(Sized::new(f64::NAN, 0.0));
                    all.lse[row] = Sized::new(f64::NAN, 0.0);
                    continue;
                }
                let most = seen.iter().map(|(_, s)| s.value).chain(sink).fold(f64::NEG_INFINITY, f64::max);
                if most == f64::NEG_INFINITY {
                    all.lse[row] = Sized::new(f64::NEG_INFINITY, 0.0);
                    continue;
                }
                let mut below: f64 = sink.map_or(0.0, |sink| (sink - most).exp());
                below += seen.iter().map(|(_, s)| (s.value - most).exp()).sum::<f64>();
                // scores err relative to their sizes, and weights by as much and by what their sum errs
                let weight = |score: &Sized| (score.value - most).exp() / below;
                let mean = 1.0 + seen.iter().map(|(_, s)| weight(s) * s.size).sum::<f64>();
                all.lse[row] = Sized::new(most + below.ln(), mean + most.abs());
                for (j, score) in seen {
                    let (p, size) = (weight(&score), mean + score.size);
                    let v = &values[j - s.keys.start];
                    let rotates = spec.rotary.as_ref().is_some_and(|r| r.values);
                    let long = if rotates { length(v) } else { 0.0 };
                    for (o, v) in out.iter_mut().zip(v) {
                        o.add(p * v, p * v.abs().max(long) * size);
                    }
                    for (number, relative) in
                        spec.relative.iter().enumerate().filter(|(_, r)| r.side == RelativeSide::Value)
                    {
                        let table = twin.relative_row(number, relative, &s, head, i, j).unwrap_or_default();
                        for (o, e) in out.iter_mut().zip(table) {
                            o.add(p * e, p * e.abs() * size);
                        }
                    }
                }
                if spec.rotary.as_ref().is_some_and(|r| r.output) {
                    let (x, sizes): (Vec<f64>, Vec<f64>) = out.iter().map(|o| (o.value, o.size)).unzip();
                    let back = twin.rotation.as_ref().expect("a rotation").back(
                        &x,
                        twin.m(&s, i),
                        head / spec.group() as usize,
                    );
                    let long = length(&sizes) * spec.rotary.as_ref().map_or(1.0, |r| r.attention_factor.abs().max(1.0));
                    for (o, x) in out.iter_mut().zip(back) {
                        *o = Sized::new(x, o.size.max(long));
                    }
                }
            }
        }
    }
    all
}

/// R N q and R N k, `[batch, len, heads, dim]`; none for rows of k that no sequence has. Of linear attention, R phi where phi stands
/// before the rotation.
pub fn rotate(spec: &Spec, inputs: &Inputs) -> [Vec<Option<Sized>>; 2] {
    let twin = Twin::new(spec, inputs);
    let dim = spec.head_dim as usize;
    let sides = [(&inputs.q, twin.q_len, Side::Query), (&inputs.k, twin.capacity, Side::Key)];
    sides.map(|(tensor, len, side)| {
        let heads = tensor.shape()[2] as usize;
        let mut all = vec![None; twin.batch * len * heads * dim];
        for s in twin.sequences() {
            for token in if side == Side::Query { s.queries.clone() } else { s.keys.clone() } {
                let at = if side == Side::Query { twin.m(&s, token) } else { twin.n(&s, token) };
                for head in 0..heads {
                    let stands = if side == Side::Query { token } else { twin.key_row(token) };
                    let mut x = row(tensor, s.entry, stands, head);
                    if let Some(linear) = spec.linear.as_ref().filter(|l| l.rotate_features) {
                        x = x.iter().map(|x| linear::simple(linear.features, *x)).collect();
                    }
                    let turned = twin.placed(x, None, at, side, head, token_rows(tensor, s.entry, stands));
                    let size = length(&turned);
                    let to = ((s.entry * len + token) * heads + head) * dim;
                    for (to, x) in all[to..to + dim].iter_mut().zip(turned) {
                        *to = Some(Sized::new(x, size));
                    }
                }
            }
        }
        all
    })
}

/// x + P, `[batch, len, dim]`.
pub fn embed(embed: &Embed, inputs: &EmbedInputs) -> Vec<Sized> {
    let [batch, len, _, dim] = inputs.x.shape().map(|n| n as usize);
    let mut all = vec![];
    for (entry, token) in (0..batch).flat_map(|b| (0..len).map(move |t| (b, t))) {
        let m = inputs.positions[entry * len + token];
        let p: Vec<f64> = match &embed.positions {
            Absolute::Learned { .. } => row(inputs.table.as_ref().expect("a table"), 0, m as usize, 0),
            Absolute::Sinusoidal { columns, denominator, base, padding_row } => {
                if *padding_row == Some(m) {
                    vec![0.0; dim]
                } else {
                    // sines and cosines, in turn or one behind the other; with an odd width a sine more, or a zero
                    let (sines, cosines, divisor) = match denominator {
                        Denominator::Half => (dim.div_ceil(2), dim / 2, dim as f64 / 2.0),
                        Denominator::HalfLessOne => (dim / 2, dim / 2, (dim / 2) as f64 - 1.0),
                        other => panic!("the twin does not know {other:?}"),
                    };
                    let wave = |p: usize| angle::cos_sin(m as f64, base.powf(-(p as f64) / divisor));
                    let mut p = vec![0.0; dim];
                    for f in 0..sines {
                        let [cos, sin] = wave(f);
                        let (at, beside) = match columns {
                            Columns::Halves => (f, sines + f),
                            Columns::Interleaved => (2 * f, 2 * f + 1),
                            other => panic!("the twin does not know {other:?}"),
                        };
                        p[at] = sin;
                        if f < cosines {
                            p[beside] = cos;
                        }
                    }
                    p
                }
            }
            other => panic!("the twin does not know {other:?}"),
        };
        for (x, p) in row(&inputs.x, entry, token, 0).iter().zip(p) {
            let (x, p) = (embed.input_scale * x, embed.position_scale * p);
            let sines = matches!(embed.positions, Absolute::Sinusoidal { .. });
            let size = if sines { embed.position_scale.abs() } else { p.abs() };
            all.push(Sized::new(x + p, x.abs() + size));
        }
    }
    all
}
