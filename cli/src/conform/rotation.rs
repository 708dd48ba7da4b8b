//! Rotations: from a case's parameters to a `Rotary`, and the cosines and sines that a case lists.

use super::model::Sizes;
use super::packed::agree;
use super::work::{Build, Expect, Probe, Stage, Table, Tolerance, Work, finish, needs, softplus, values_of};
use crate::golden::{Golden, Parameters, Tensors, Values};
use ropewalk::{
    Angle, Branches, Error, Frequencies, Inputs, MAX_HEAD_DIM, Pairing, PatchPositions, Positions, RopeParameters,
    Rotary, Sections, Spec, Tensor, XPos, fixed_point,
};

/// The length extension that the parameters describe, with theta. `longest` is the longest sequence of the call.
fn scaled(p: &Parameters, pairing: Pairing, rotary_dim: u32, longest: Option<u32>) -> Build<Rotary> {
    // One dictionary for a model, or one for each kind of layer (Gemma 3).
    let (rope, older) = (p.dictionary("rope_parameters"), p.dictionary("rope_scaling"));
    let rope = rope.or(older).cloned().unwrap_or_default();
    let layer = if p.set("sliding_window") { "sliding_attention" } else { "full_attention" };
    let of_layer = rope.get(layer).and_then(serde_json::Value::as_object).cloned();
    let layers = ["full_attention", "sliding_attention", "chunked_attention"];
    if let Some(other) = rope.keys().find(|key| of_layer.is_some() && !layers.contains(&key.as_str())) {
        return needs(format!("the rotation of `{other}`"));
    }
    let holds = |key: &String| {
        rope.values().filter_map(serde_json::Value::as_object).chain([&rope]).any(|d| d.contains_key(key))
    };
    if let Some(key) = older.and_then(|older| older.keys().find(|key| !holds(key))) {
        return needs(format!("the parameter `rope_scaling.{key}`"));
    }
    let says = |d: &serde_json::Map<_, _>| {
        older.is_none_or(|older| older.iter().all(|(key, value)| d.get(key) == Some(value)))
    };
    if !says(&rope) && !rope.values().filter_map(serde_json::Value::as_object).any(says) {
        let problem = "says what rope_parameters does not";
        return Err(Error::input("rope_scaling", problem, "let the two agree").into());
    }
    let json = serde_json::Value::Object(of_layer.unwrap_or(rope)).to_string();
    let rope = match RopeParameters::from_json(&json, p.u32("max_position_embeddings"), longest) {
        Err(e @ Error::Config { .. }) => return needs(format!("a length extension: {e}")),
        other => other?,
    };
    if let (Some(a), Some(b)) = (rope.theta, p.f64("theta"))
        && a != b
    {
        let problem = format!("is {b}, but the rope dictionary says {a}");
        return Err(Error::input("theta", problem, "let the two agree").into());
    }
    if let (Some(share), Some(dim)) = (rope.partial_rotary_factor, p.u32("head_dim"))
        && (share * dim as f64) as u32 != rotary_dim
    {
        let problem = format!("is {rotary_dim}, but the rope dictionary says {share} of {dim}");
        return Err(Error::input("rotary_dim", problem, "let the two agree").into());
    }
    let Some(theta) = rope.theta.or_else(|| p.f64("theta")) else {
        return Err(Error::input("theta", "is missing from `parameters`", "give the base of the frequencies").into());
    };
    Ok(Rotary::scaled(pairing, rotary_dim, theta, &rope.scaling)?)
}

/// Two branches of the distance: ReRoPE's and Self-Extend's.
fn branches(system: &str, p: &Parameters) -> Build<Option<Branches>> {
    let positions = |name: &str| {
        let missing = || Error::input(name, "is missing or no number of positions", "give whole positions, 1 or more");
        p.u32(name).filter(|n| *n > 0).ok_or_else(missing)
    };
    if p.given("group_size_1") || p.given("group_size_2") {
        let (group, window) = (positions("group_size_1")?, positions("group_size_2")?);
        return Ok(Some(Branches::Grouped { window, group }));
    }
    let named = |name: &str| system.contains(name) || p.str("model").is_some_and(|model| model.contains(name));
    if named("leaky") {
        return needs("distances that grow slower beyond a window");
    }
    match named("rerope") {
        true => Ok(Some(Branches::Clipped { window: positions("window")? })),
        false => Ok(None),
    }
}

/// R, if the case rotates; its listed frequencies join the tables.
pub fn rotary(
    system: &str,
    p: &Parameters,
    t: &mut Tensors,
    head_dim: u32,
    sizes: Sizes,
    tables: &mut Vec<Table>,
) -> Build<Option<Rotary>> {
    let Some(pairing) = p.str("pairing") else { return Ok(None) };
    if let Some(rotary) = axial(pairing, p, t, head_dim, sizes, tables)? {
        return Ok(Some(rotary));
    }
    let interleaved = p.bool("interleaved");
    let pairing = match pairing {
        _ if p.u32("rotary_dim") == Some(0) => return Ok(None),
        "half" => Pairing::Half,
        "interleaved" => Pairing::Interleaved,
        "interleaved_in_half_out" => Pairing::InterleavedInHalfOut,
        other => return needs(format!("pairing `{other}`")),
    };
    if interleaved == Some(pairing == Pairing::Half) {
        return Err(Error::input("interleaved", "contradicts pairing", "let the two agree").into());
    }
    let rotary_dim = p.u32("rotary_dim").or_else(|| p.u32("rope_dim")).unwrap_or(head_dim);
    let sections = sections(p)?;
    if sections.is_none() && (p.set("grid") || t.0.get("positions").is_some_and(|e| e.shape.last() == Some(&2))) {
        return picture(system, p, t, pairing, [head_dim, rotary_dim], sizes, tables).map(Some);
    }
    let mut rotary = build(p, t, pairing, rotary_dim, tables)?;
    match p.str("frequency_exponent").map(|text| text.replace(' ', "")).as_deref() {
        None => {}
        // RetNet: the last pair turns by 1 / theta
        Some("p/(d/2-1)") => {
            let Some(theta) = p.f64("theta") else { return needs("the base of the frequencies") };
            let last = (rotary_dim / 2).saturating_sub(1).max(1) as f64;
            let f = |pair: u32| theta.powf(-(pair as f64) / last);
            rotary.frequencies = Frequencies::InvFreq((0..rotary_dim / 2).map(f).collect());
        }
        Some(other) => return needs(format!("the exponent `{other}` of frequencies")),
    }
    match p.str("rotary_part") {
        Some("last") => rotary.offset = head_dim.saturating_sub(rotary_dim),
        Some("first") | None => {}
        Some(other) => return needs(format!("rotary_part `{other}`")),
    }
    if let Some((order, sections)) = sections {
        rotary = rotary.with_sections(order, sections)?;
    }
    rotary.xpos = xpos(system, p, t, rotary_dim, sizes, tables)?;
    (rotary.values, rotary.output) = (p.set("rotary_value"), p.set("rotary_output_inverse"));
    rotary.branches = branches(system, p)?;
    Ok(Some(rotary))
}

/// Rotations of several axes whose positions are listed for each token: frequencies of each axis, of each head, or sums of both.
fn axial(
    pairing: &str,
    p: &Parameters,
    t: &mut Tensors,
    head_dim: u32,
    sizes: Sizes,
    tables: &mut Vec<Table>,
) -> Build<Option<Rotary>> {
    let of = match pairing {
        "half" => Pairing::Half,
        "interleaved" | "interleaved_tiled" => Pairing::Interleaved,
        "half_of_thirds" => Pairing::Listed,
        _ => return Ok(None),
    };
    let tiled = pairing == "interleaved_tiled";
    let axes = p.objects("axes");
    let (of_heads, mixed) = (p.set("frequencies_per_head"), p.set("mixed"));
    if axes.is_empty() && !of_heads && !mixed && !tiled {
        return Ok(None);
    }
    if p.bool("interleaved").is_some_and(|said| said != (of == Pairing::Interleaved)) {
        return Err(Error::input("interleaved", "contradicts pairing", "let the two agree").into());
    }
    let theta = || {
        let missing = || Error::input("theta", "is missing from `parameters`", "give the base of the frequencies");
        p.f64("theta").ok_or_else(missing)
    };
    let rotary = if !axes.is_empty() {
        let axis = |axis: &Parameters| Some((axis.u32("dim")?, axis.f64("theta")?));
        let Some(axes) = axes.iter().map(axis).collect::<Option<Vec<_>>>() else {
            return Err(Error::input("axes", "cannot be read", "give dim and theta of each").into());
        };
        Rotary::axes(&axes, of)?
    } else if mixed {
        let table = t.need("pos_frequencies")?;
        let [axes, heads, pairs] = table.shape[..] else {
            return Err(table.wrong("pos_frequencies", "[axes, heads, head_dim / 2]").into());
        };
        if heads != sizes.heads as usize || 2 * pairs != head_dim as usize || !of_heads || axes > 255 {
            return Err(table.wrong("pos_frequencies", "[axes, heads, head_dim / 2], frequencies_per_head").into());
        }
        Rotary::rope_mixed(of, axes as u8, sizes.heads, &table.f64s("pos_frequencies")?)?
    } else if tiled {
        let rotary = Rotary::vjepa2(head_dim, theta()?)?;
        agree(p, &[("axis_dim", rotary.rotary_dim / 3)])?;
        rotary
    } else {
        let rotary = Rotary::ltx(sizes.heads, head_dim, theta()?)?;
        if let (Some(listed), Frequencies::Sums(sums)) = (t.take("inv_freq"), &rotary.frequencies) {
            let computed: Vec<f64> = sums.values.chunks(sums.streams as usize).map(|f| f.iter().sum()).collect();
            let listed = values_of("inv_freq", &listed, &[computed.len() as u32])?;
            let tolerance = Tolerance::Relative(2f64.powi(-23));
            tables.push(Table { name: "inv_freq".into(), computed, listed, tolerance });
        }
        rotary
    };
    agree(p, &[("rotary_dim", rotary.rotary_dim)])?;
    // how the positions came about, which are listed
    for name in TOLD_BY_POSITIONS {
        let _ = p.list(name);
        // a number of this name is a base of frequencies elsewhere
        if name != "base" {
            let _ = p.f64(name);
        }
    }
    let Some(coordinates) = coordinates(t, sizes)? else { return needs("positions of several axes that are listed") };
    let mut units: Vec<f64> = coordinates.iter().map(|(unit, _)| *unit).collect();
    let divisors = p.list("interpolation_scale");
    if !divisors.is_empty() && divisors.len() != units.len() {
        let problem = format!("holds {} divisors for {} axes", divisors.len(), units.len());
        return Err(Error::input("interpolation_scale", problem, "give one for each axis").into());
    }
    for (unit, by) in units.iter_mut().zip(divisors) {
        match by.as_f64() {
            Some(by) if by > 0.0 => *unit /= by,
            _ => return Err(Error::input("interpolation_scale", format!("holds {by}"), "give divisors").into()),
        }
    }
    Ok(Some(rotary.with_units(&units)))
}

/// What a case says of how its positions came about, which it lists.
const TOLD_BY_POSITIONS: [&str; 11] = [
    "grid",
    "grids",
    "grid_size",
    "class_tokens",
    "text_tokens",
    "crops_coords",
    "rope_scale",
    "rope_interpolation_scale",
    "fps",
    "base_fps",
    "base",
];

/// Of each axis its unit, and the tokens' numbers of it.
type Coordinates = Vec<(f64, Vec<i32>)>;

/// `positions [tokens, axes]`: of each axis its unit, and the tokens' numbers of it.
fn coordinates(t: &Tensors, sizes: Sizes) -> Build<Option<Coordinates>> {
    let Some(entry) = t.0.get("positions") else { return Ok(None) };
    let tokens = sizes.kv_len as usize;
    match entry.shape[..] {
        [n, axes] if n == tokens && axes > 0 => {
            let all = entry.f64s("positions")?;
            let of = |axis: usize| all.iter().skip(axis).step_by(axes).copied().collect::<Vec<_>>();
            Ok(Some((0..axes).map(|axis| fixed_point(&of(axis))).collect()))
        }
        _ => Err(entry.wrong("positions", &format!("[{tokens}, axes]")).into()),
    }
}

/// PoPE: every element has a frequency, its size in its softplus, and a key a phase of its head. That is a rotation of heads twice as long,
/// whose pairs are (softplus x, 0).
pub fn polar(p: &Parameters, t: &mut Tensors) -> Build<Option<Rotary>> {
    let Some(phase) = t.take("key_phase") else { return Ok(None) };
    let Some(theta) = p.f64("theta") else { return needs("the base of the frequencies") };
    let [heads, 1, dim] = phase.shape[..] else {
        return Err(phase.wrong("key_phase", "[heads, 1, head_dim]").into());
    };
    let phases = phase.f64s("key_phase")?;
    for name in ["q", "k"] {
        let mut entry = t.need(name)?;
        let shape = entry.shape4(name)?.map(|n| n as usize);
        if entry.shape.len() != 4 || shape[1] != heads || shape[3] != dim {
            return Err(entry.wrong(name, "[batch, heads, len, head_dim], of the heads of key_phase").into());
        }
        let rows = entry.f64s(name)?;
        let row = |(n, row): (usize, &[f64])| {
            let of = &phases[n / shape[2].max(1) % heads * dim..][..dim];
            let turned = |f: fn(f64) -> f64| row.iter().zip(of).map(move |(x, phase)| softplus(*x) * f(*phase));
            match name {
                "q" => row.iter().map(|x| softplus(*x)).chain(std::iter::repeat_n(0.0, dim)).collect::<Vec<_>>(),
                _ => turned(f64::cos).chain(turned(f64::sin)).collect(),
            }
        };
        entry.values = Values::Double(rows.chunks(dim.max(1)).enumerate().flat_map(row).collect());
        entry.shape[3] = 2 * dim;
        t.0.insert(name.into(), entry);
    }
    let f = |pair: usize| theta.powf(-(pair as f64) / dim as f64);
    Ok(Some(Rotary::with_inv_freq(Pairing::Half, (0..dim).map(f).collect())))
}

/// Numbers of a list of the parameters.
fn numbers<const N: usize>(p: &Parameters, name: &str) -> Build<Option<[u32; N]>> {
    if !p.set(name) {
        return Ok(None);
    }
    let list: Option<Vec<u32>> = p.list(name).iter().map(|n| u32::try_from(n.as_u64()?).ok()).collect();
    match list.and_then(|list| <[u32; N]>::try_from(list).ok()) {
        Some(list) => Ok(Some(list)),
        None => Err(Error::input(name, "cannot be read", format!("give {N} whole numbers")).into()),
    }
}

/// m-RoPE: `mrope_layout` says in words how the sections lie, or else the model's name does.
fn sections(p: &Parameters) -> Build<Option<(Sections, [u32; 3])>> {
    let Some(sections) = numbers(p, "mrope_section")? else { return Ok(None) };
    let words = p.str("mrope_layout").unwrap_or_default().to_lowercase();
    let model = p.str("model").unwrap_or_default().to_lowercase();
    let starts = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
    let order = match () {
        _ if words.contains("contiguous") => Sections::Contiguous,
        _ if words.contains("alternat") => Sections::Alternating,
        _ if words.contains("interleaved") => Sections::Interleaved,
        _ if !words.is_empty() => return needs(format!("the m-RoPE layout `{words}`")),
        _ if starts(&["qwen2_vl", "qwen2_5_vl", "glm4v", "glm_4v"]) => Sections::Contiguous,
        _ if starts(&["qwen3_vl", "qwen3_5"]) => Sections::Interleaved,
        _ if starts(&["ernie4_5_vl"]) => Sections::Alternating,
        _ => return needs(format!("the m-RoPE layout of `{model}`")),
    };
    Ok(Some((order, sections)))
}

/// The rotation of a picture's patches, by the system that the model or else `system` names.
fn picture(
    system: &str,
    p: &Parameters,
    t: &mut Tensors,
    pairing: Pairing,
    [head_dim, rotary_dim]: [u32; 2],
    sizes: Sizes,
    tables: &mut Vec<Table>,
) -> Build<Rotary> {
    if rotary_dim != head_dim {
        return needs("2-D rotation of a part of a head");
    }
    let Some(theta) = p.f64("theta") else {
        return Err(Error::input("theta", "is missing from `parameters`", "give the base of the frequencies").into());
    };
    let name = format!("{} {system}", p.str("model").unwrap_or_default()).to_lowercase().replace([' ', '-'], "_");
    let grid = || -> Build<[u32; 2]> {
        let missing = || Error::input("grid", "is missing from `parameters`", "give rows and columns of patches");
        Ok(numbers(p, "grid")?.ok_or_else(missing)?)
    };
    let mut rotary = match () {
        _ if name.contains("sam2") => {
            // x, then y; keys are the frames' patches, then tokens that do not turn
            let [rows, columns] = grid()?;
            let (tokens, frames) = (rows.saturating_mul(columns), p.u32("memory_frames").unwrap_or(1));
            let still = p.u32("unrotated_keys").unwrap_or(0);
            if frames.saturating_mul(tokens).saturating_add(still) != sizes.kv_len {
                let problem = format!("{frames} frames of {tokens} tokens and {still} more of {} keys", sizes.kv_len);
                return Err(Error::input("memory_frames", problem, "let them be the keys").into());
            }
            Rotary::axes(&[(head_dim / 2, theta); 2], pairing)?
        }
        _ if name.contains("pixtral") => Rotary::pixtral(head_dim, theta)?,
        _ if name.contains("qwen2_vl") || name.contains("qwen2_5_vl") => Rotary::qwen2_vl_vision(head_dim, theta)?,
        _ if name.contains("gemma4") || name.contains("gemma_4") => Rotary::gemma4_vision(head_dim, theta)?,
        _ if name.contains("llama4") || name.contains("llama_4") => Rotary::llama4_vision(head_dim, theta)?,
        _ if p.set("ref_grid") || name.contains("eva") => Rotary::eva02(head_dim, theta, numbers(p, "ref_grid")?)?,
        _ if p.has("prefix_tokens") || name.contains("dino") => Rotary::dinov3(head_dim, theta, grid()?)?,
        _ => return needs(format!("2-D rotation of the system {system}")),
    };
    // the half pairing of Gemma 4 is one inside each half
    if rotary.pairing != Pairing::HalfOfHalves || pairing != Pairing::Half {
        rotary.pairing = pairing;
    }
    if let Some(listed) = t.take("inv_freq") {
        // one for each pair, or those of rows alone, of which columns have the same
        let pairs = head_dim as usize / 2;
        let computed = match listed.shape.as_slice() {
            [n] if *n == pairs => rotary.inv_freq(),
            _ => (0..pairs / 2).map(|i| theta.powf(-4.0 * i as f64 / head_dim as f64)).collect(),
        };
        let listed = values_of("inv_freq", &listed, &[computed.len() as u32])?;
        let tolerance = Tolerance::Relative(2f64.powi(-23));
        tables.push(Table { name: "inv_freq".into(), computed, listed, tolerance });
    }
    if let Some(listed) = p.f64("attention_factor") {
        let (name, tolerance) = ("attention_factor".into(), Tolerance::Zero);
        tables.push(Table { name, computed: vec![1.0], listed: vec![listed], tolerance });
    }
    Ok(rotary)
}

/// xPos: the position of magnitude 1 is `centre`, or -`min_pos` (torchscale: the sequence runs from min_pos on).
fn xpos(
    system: &str,
    p: &Parameters,
    t: &mut Tensors,
    dim: u32,
    sizes: Sizes,
    tables: &mut Vec<Table>,
) -> Build<Option<XPos>> {
    let zeta = t.take("zeta");
    let Some(scale_base) = p.f64("scale_base") else {
        return match zeta {
            Some(_) => Err(Error::input("scale_base", "is missing from `parameters`", "give it beside zeta").into()),
            None => Ok(None),
        };
    };
    if let Some(listed) = zeta {
        let computed = (0..dim as usize / 2).map(|pair| XPos::zeta(pair, dim)).collect();
        let listed = values_of("zeta", &listed, &[dim / 2])?;
        tables.push(Table { name: "zeta".into(), computed, listed, tolerance: Tolerance::Relative(2f64.powi(-23)) });
    }
    for name in ["centre", "min_pos", "offset"] {
        if p.set(name) && p.i64(name).is_none() {
            return needs(format!("{name} between two positions"));
        }
    }
    let length = sizes.kv_len as i64 + key_offset(p, sizes);
    let centre = match (p.i64("centre"), p.i64("min_pos").and_then(i64::checked_neg)) {
        (Some(a), Some(b)) if a != b => {
            return Err(Error::input("centre", format!("is {a}, but min_pos is {}", -b), "let the two agree").into());
        }
        (Some(centre), _) | (None, Some(centre)) => centre,
        // torchscale: -floor(-length / 2); the others: floor(length / 2)
        (None, None) if system.to_lowercase().contains("torchscale") => (length + 1).div_euclid(2),
        (None, None) => length.div_euclid(2),
    };
    match i32::try_from(centre) {
        Ok(centre) => Ok(Some(XPos::new(scale_base, centre))),
        Err(_) => Err(Error::input("centre", format!("is {centre}"), "give a position of 32 bits").into()),
    }
}

/// The position of the first key. Where there are fewer queries than keys, and `offset` says how many, it is the queries'.
fn key_offset(p: &Parameters, sizes: Sizes) -> i64 {
    let offset = p.i64("offset").unwrap_or(0).clamp(-(1 << 31), 1 << 31);
    if offset == sizes.kv_len as i64 - sizes.q_len as i64 { 0 } else { offset }
}

/// The positions of queries and keys where they are not one listed row each: several streams, a picture's patches, a
/// sequence that does not begin at 0.
pub fn positions(p: &Parameters, t: &mut Tensors, spec: &Spec, sizes: Sizes) -> Build<Option<[Vec<i32>; 2]>> {
    let Some(rotary) = &spec.rotary else { return Ok(None) };
    let (batch, q_len, kv_len) = (sizes.batch as usize, sizes.q_len as usize, sizes.kv_len as usize);
    let index = |offset: i64, len: usize| -> Vec<i32> { (0..len as i64).map(|i| (offset + i) as i32).collect() };
    let late = kv_len as i64 - q_len as i64;
    let rank = |name: &str| t.0.get(name).map_or(0, |ids| ids.shape.len());
    if p.set("mrope_section") || rank("q_positions") == 3 && rank("k_positions") == 3 {
        let streams = spec.position_streams() as usize;
        let mut rows = |name: &str, offset: i64, len: usize| -> Build<Vec<i32>> {
            let Some(entry) = t.take(name) else { return Ok(index(offset, len).repeat(batch * streams)) };
            let ids = entry.i32s(name)?;
            match entry.shape.as_slice() {
                [n, b, l] if *n >= streams && *b == batch && *l == len => Ok(ids[..streams * batch * len].to_vec()),
                [n, 1, l] if *n >= streams && *l == len => {
                    Ok(ids.chunks(len.max(1)).take(streams).flat_map(|row| row.repeat(batch)).collect())
                }
                [b, l] if *b == batch && *l == len => Ok(ids.repeat(streams)),
                _ => Err(entry.wrong(name, &format!("[3, {batch}, {len}]")).into()),
            }
        };
        return Ok(Some([rows("q_positions", late, q_len)?, rows("k_positions", 0, kv_len)?]));
    }
    let axial = p.has("axes") || p.has("frequencies_per_head") || p.has("axis_dim");
    if axial || rotary.streams.iter().any(|s| *s > 0) {
        let streams: Vec<Vec<i32>> = match axial.then(|| coordinates(t, sizes)).transpose()?.flatten() {
            Some(coordinates) => {
                t.take("positions");
                coordinates.into_iter().take(spec.position_streams() as usize).map(|(_, ids)| ids).collect()
            }
            None => patches(p, t, sizes)?.into(),
        };
        if streams.len() != spec.position_streams() as usize {
            return Err(
                Error::input("positions", "have fewer axes than the rotation", "give one column for each").into()
            );
        }
        let last = |row: &Vec<i32>| row.get(kv_len.saturating_sub(q_len)..).unwrap_or_default().repeat(batch);
        let all = |row: &Vec<i32>| row.repeat(batch);
        return Ok(Some([streams.iter().flat_map(last).collect(), streams.iter().flat_map(all).collect()]));
    }
    let offset = key_offset(p, sizes);
    if rotary.xpos.is_some() && offset != 0 && !t.has("q_positions") {
        return Ok(Some([index(offset + late, q_len).repeat(batch), index(offset, kv_len).repeat(batch)]));
    }
    Ok(None)
}

/// Row and column of every token: listed, or those of the grid behind the tokens that do not rotate.
fn patches(p: &Parameters, t: &mut Tensors, sizes: Sizes) -> Build<[Vec<i32>; 2]> {
    let tokens = sizes.kv_len as usize;
    if let Some(entry) = t.take("positions") {
        let ids = entry.i32s("positions")?;
        if entry.shape != [tokens, 2] {
            return Err(entry.wrong("positions", &format!("[{tokens}, 2]")).into());
        }
        if let Some([height, width]) = numbers(p, "grid")?
            && height as u64 * width as u64 > tokens as u64
        {
            return Err(Error::input("grid", "has more patches than the case has tokens", "let the two agree").into());
        }
        return Ok([0, 1].map(|s| ids.iter().skip(s).step_by(2).copied().collect()));
    }
    let grid: [u32; 2] = numbers(p, "grid")?.unwrap_or_default();
    let prefix = p.u32("prefix_tokens");
    let patches = grid.iter().map(|n| *n as u64).product::<u64>();
    let front = prefix.map_or((tokens as u64).checked_sub(patches), |n| Some(n as u64));
    let Some(front) = front.filter(|front| front + patches == tokens as u64) else {
        let problem = format!("of {grid:?} patches with {} tokens in front", prefix.unwrap_or(0));
        return Err(Error::input("grid", problem, format!("the case has {tokens} tokens")).into());
    };
    let positions = match p.set("ref_grid") || p.str("pairing") == Some("interleaved") {
        true => PatchPositions::eva02(grid, numbers(p, "ref_grid")?)?,
        false => PatchPositions::dinov3(grid)?,
    };
    let positions = positions.with_prefix(front as u32)?;
    Ok([positions.rows, positions.columns])
}

/// R_v: listed values as the kernels stage them. `rotate` turns q and k alone, so the values stand in for k.
pub fn values(t: &mut Tensors, spec: &Spec, inputs: &Inputs, v_shape: [u32; 4]) -> Build<Option<Probe>> {
    let Some(listed) = t.take("expected_v_rot") else { return Ok(None) };
    let mut spec_of_v = Spec::new(spec.num_kv_heads, spec.num_kv_heads, spec.v_head_dim);
    (spec_of_v.rotary, spec_of_v.positions) = (spec.rotary.clone().filter(|r| r.values), spec.positions);
    if let Some(rotary) = &mut spec_of_v.rotary {
        (rotary.xpos, rotary.output) = (None, false);
    }
    let v = inputs.v.clone();
    let mut of_v = Inputs::new(v.clone(), v.clone(), v);
    if spec.positions == Positions::Ids {
        (of_v.q_positions, of_v.k_positions) = (inputs.k_positions.clone(), inputs.k_positions.clone());
    }
    let expects = vec![Expect::heads_first("expected_v_rot", Stage::KRot, &listed, v_shape, Tolerance::DOUBLE)?];
    Ok(Some(Probe { label: "values", spec: spec_of_v, inputs: of_v, expects, difference: None }))
}

/// The rotation whose frequencies or angles a layer lists without using them (Llama 4's layers without positions).
pub fn unused(p: &Parameters, t: &mut Tensors, spec: &Spec, tables: &mut Vec<Table>) -> Build<Option<Rotary>> {
    let listed = ["inv_freq", "cos", "sin"].iter().any(|name| t.has(name));
    if spec.rotary.is_some() || p.u32("rotary_dim") != Some(0) || !listed || spec.head_dim % 2 == 1 {
        return Ok(None);
    }
    Ok(Some(build(p, t, Pairing::Interleaved, spec.head_dim, tables)?))
}

fn build(p: &Parameters, t: &mut Tensors, pairing: Pairing, dim: u32, tables: &mut Vec<Table>) -> Build<Rotary> {
    let last = |name: &str| t.0.get(name).and_then(|ids| ids.i32s(name).ok()?.into_iter().max());
    let end = last("q_positions").max(last("k_positions")).and_then(|n| u32::try_from(n.checked_add(1)?).ok());
    let longest = match p.has("seq_len") {
        true => p.u32("seq_len"),
        false => p.u32("rope_seq_len").or(end),
    };
    let rotary = scaled(p, pairing, dim, longest)?;
    if let Some(listed) = t.take("inv_freq") {
        // Rounded to f32 once; the scaling cases keep f64.
        let tolerance = Tolerance::Relative(if listed.is_double() { 1e-12 } else { 2f64.powi(-23) });
        let listed = values_of("inv_freq", &listed, &[dim / 2])?;
        let mut computed = rotary.inv_freq();
        if let Some((Sections::Alternating, [h, w, _])) = sections(p)? {
            // Ernie stores height's frequencies, then width's, then time's
            let (space, time) = computed.split_at((h.saturating_add(w) as usize).min(computed.len()));
            let every_other = |from: usize| space.iter().skip(from).step_by(2);
            computed = every_other(0).chain(every_other(1)).chain(time).copied().collect();
        }
        tables.push(Table { name: "inv_freq".into(), computed, listed, tolerance });
    }
    if let Some(listed) = p.f64("attention_factor") {
        let (name, computed, tolerance) =
            ("attention_factor".into(), rotary.attention_factor, Tolerance::Relative(1e-12));
        tables.push(Table { name, computed: vec![computed], listed: vec![listed], tolerance });
    }
    Ok(rotary)
}

/// The rotation of a unit vector in every pair's plane gives cos and sin themselves; `positions` holds every stream's.
fn unit_vectors(rotary: &Rotary, positions: &[Vec<i32>]) -> Build<(Spec, Inputs)> {
    let (rows, dim) = (positions.first().map_or(0, Vec::len) as u32, rotary.rotary_dim);
    if dim > MAX_HEAD_DIM {
        return needs(format!("heads of more than {MAX_HEAD_DIM} elements"));
    }
    let mut spec = Spec::new(1, 1, dim);
    let mut rotary = rotary.clone();
    (rotary.pairing, rotary.offset, rotary.xpos, rotary.values) = (Pairing::Half, 0, None, false);
    spec.rotary = Some(rotary);
    spec.positions = Positions::Ids;
    let half = dim as usize / 2;
    let row = [vec![1.0f32; half], vec![0.0; half]].concat();
    let unit = Tensor::bshd(row.repeat(rows as usize), [1, rows, 1, dim])?;
    let mut inputs = Inputs::new(unit.clone(), unit.clone(), unit);
    let ids = positions.iter().take(spec.position_streams() as usize).flatten().copied().collect::<Vec<_>>();
    (inputs.q_positions, inputs.k_positions) = (Some(ids.clone()), Some(ids));
    Ok((spec, inputs))
}

/// Listed cos and sin, `[rows, rotary_dim / 2]` each, as the rotated unit vectors.
fn expect_angles(name: &str, cos: &[f64], sin: &[f64], pairs: usize) -> Expect {
    let rows = cos.chunks(pairs.max(1)).zip(sin.chunks(pairs.max(1)));
    let listed = rows.flat_map(|(c, s)| c.iter().chain(s)).copied().map(Some).collect();
    Expect { name: name.into(), stage: Stage::QRot, listed, tolerance: Tolerance::DOUBLE }
}

/// The cos and sin that a model's rotation module returned, at the queries' positions or (where there are as many
/// rows) the keys', tokens in front that do not rotate left out or not: one entry a pair, or the full width with every entry twice.
pub fn angles(p: &Parameters, t: &mut Tensors, spec: &Spec, inputs: &Inputs, sizes: Sizes) -> Build<Option<Probe>> {
    let Some(rotary) = &spec.rotary else { return Ok(None) };
    if !t.has("cos") || !t.has("sin") {
        return Ok(None);
    }
    let (cos, sin) = (t.need("cos")?, t.need("sin")?);
    let (pairs, width) = ((rotary.rotary_dim / 2) as usize, cos.shape.last().copied().unwrap_or(0));
    if sin.shape != cos.shape || (width != pairs && width != 2 * pairs) {
        return Err(cos.wrong("cos", &format!("{pairs} or {} columns, like sin", 2 * pairs)).into());
    }
    let (cos_values, sin_values) = (cos.f64s("cos")?, sin.f64s("sin")?);
    let (batch, prefix) = (sizes.batch as usize, p.u32("prefix_tokens").unwrap_or(0) as usize);
    // every stream's positions, `[batch, len]`
    let streams = |ids: &Option<Vec<i32>>, from: i64, len: usize| -> Vec<Vec<i32>> {
        match ids {
            Some(ids) => ids.chunks(batch * len).map(<[i32]>::to_vec).collect(),
            None => vec![(0..len as i64).map(|i| (from + i) as i32).collect::<Vec<_>>().repeat(batch)],
        }
    };
    let (q_len, kv_len) = (sizes.q_len as usize, sizes.kv_len as usize);
    let of_q = streams(&inputs.q_positions, kv_len as i64 - q_len as i64, q_len);
    let of_k = streams(&inputs.k_positions, 0, kv_len);
    let rows = cos_values.len() / width.max(1);
    let mut found = None;
    for (ids, len) in [(&of_q, q_len), (&of_k, kv_len)] {
        for skip in [0, prefix] {
            let behind = |row: &Vec<i32>| row.chunks(len).flat_map(|s| s.iter().skip(skip)).copied().collect();
            let ids: Vec<Vec<i32>> = ids.iter().map(behind).collect();
            let left = len.saturating_sub(skip);
            if found.is_none() && [batch * left, left].contains(&rows) {
                found = Some((ids.iter().map(|row| row[..rows].to_vec()).collect::<Vec<_>>(), rotary.clone()));
            } else if found.is_none() && ids.len() > 1 && rows == ids.len() * batch * left {
                // every stream's angles of all pairs
                let mut plain = rotary.clone();
                plain.streams.clear();
                found = Some((vec![ids.concat()], plain));
            }
        }
    }
    let Some((positions, rotary)) = found else {
        return Err(cos.wrong("cos", "a row for every query or every key").into());
    };
    let columns = |values: &[f64], column: fn(usize, usize) -> usize| -> Vec<f64> {
        values.chunks(width).flat_map(|row| (0..pairs).map(|p| row[column(p, pairs)]).collect::<Vec<_>>()).collect()
    };
    let views: Vec<fn(usize, usize) -> usize> = match width == pairs {
        true => vec![|p, _| p],
        false if rotary.pairing == Pairing::HalfOfHalves => {
            fn at(p: usize, pairs: usize) -> usize {
                p + if p < pairs / 2 { 0 } else { pairs / 2 }
            }
            vec![at, |p, pairs| at(p, pairs) + pairs / 2]
        }
        false => full_width(&cos_values, &sin_values, pairs),
    };
    let expects = views
        .into_iter()
        .map(|view| expect_angles("cos/sin", &columns(&cos_values, view), &columns(&sin_values, view), pairs));
    let expects = expects.collect();
    let (spec, inputs) = unit_vectors(&rotary, &positions)?;
    Ok(Some(Probe { label: "angles", spec, inputs, expects, difference: None }))
}

/// Where the two copies of pair p's entry stand in a row of full width: half a row apart, or side by side.
fn full_width(cos: &[f64], sin: &[f64], pairs: usize) -> Vec<fn(usize, usize) -> usize> {
    let differ = |one: fn(usize, usize) -> usize, other: fn(usize, usize) -> usize| -> usize {
        let rows = cos.chunks(2 * pairs).chain(sin.chunks(2 * pairs));
        rows.map(|row| (0..pairs).filter(|p| row[one(*p, pairs)] != row[other(*p, pairs)]).count()).sum()
    };
    let apart: [fn(usize, usize) -> usize; 2] = [|p, _| p, |p, pairs| p + pairs];
    let beside: [fn(usize, usize) -> usize; 2] = [|p, _| 2 * p, |p, _| 2 * p + 1];
    if differ(apart[0], apart[1]) <= differ(beside[0], beside[1]) { apart.to_vec() } else { beside.to_vec() }
}

/// A scaling function's frequencies, and cos and sin from them at far positions: exact angles from the f64
/// frequencies, exact angles from the f32 ones, and f32 angles.
pub fn scaling(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let positions = t.need("positions")?.i32s("positions")?;
    let Some(dim) = p.u32("rotary_dim").or_else(|| p.u32("head_dim")) else {
        return Err(Error::input("rotary_dim", "is missing from `parameters`", "give it").into());
    };
    let mut work = Work::default();
    let exact = build(&p, &mut t, Pairing::Half, dim, &mut work.tables)?;
    let mut probe = |label, rotary: &Rotary, t: &mut Tensors, [cos, sin]: [&str; 2]| -> Build<()> {
        if !t.has(cos) || !t.has(sin) {
            return Ok(());
        }
        let (c, s) = (t.need(cos)?, t.need(sin)?);
        let shape = [positions.len() as u32, dim / 2];
        let (c, s) = (values_of(cos, &c, &shape)?, values_of(sin, &s, &shape)?);
        let (spec, inputs) = unit_vectors(rotary, std::slice::from_ref(&positions))?;
        let expects = vec![expect_angles(&format!("{cos}/{sin}"), &c, &s, dim as usize / 2)];
        work.probes.push(Probe { label, spec, inputs, expects, difference: None });
        Ok(())
    };
    probe("exact", &exact, &mut t, ["cos", "sin"])?;
    if let Some(shipped) = t.take("inv_freq_f32") {
        let inv_freq = values_of("inv_freq_f32", &shipped, &[dim / 2])?;
        let mut shipped = exact.clone();
        shipped.frequencies = Frequencies::InvFreq(inv_freq);
        probe("exact_f32_freq", &shipped, &mut t, ["cos_f64_from_inv_freq_f32", "sin_f64_from_inv_freq_f32"])?;
        shipped.angle = Angle::Float32;
        probe("float32", &shipped, &mut t, ["cos_hf_f32", "sin_hf_f32"])?;
    }
    finish(&p, t, work)
}
