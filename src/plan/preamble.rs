//! The constants in front of a module, which shaders/README.md lists, and its label.

use crate::equation::factors::Steps;
use crate::equation::linear::{FeatureMap, Linear};
use crate::equation::mask::band::Text;
use crate::equation::spec::Spec;
use crate::plan::grid::padded;
use crate::plan::kernel::Kernel;
use crate::plan::tables::TableLayout;
use crate::shader::compose::wgsl_f32;
use crate::shader::layout::{Binding, MAX_PAIRS};
use std::fmt::Write;

/// Of scores and of lse.
pub(crate) const LEVELS: &str = concat!(
    "const SCORE_FLOOR: f32 = -1e38; // scores below this are taken as this\n",
    "const MASKED: f32 = -3e38;   // a masked score, below SCORE_FLOOR, and the lse of a row that sees no key; -inf on the host\n",
    "const LOG2_E: f32 = 1.44269504;\n\n",
);

/// Constants, bindings and the glue between slots.
pub(crate) fn preamble(
    kernel: Kernel,
    spec: &Spec,
    [tile_q, tile_k]: [u32; 2],
    constants: &[(&'static str, u32)],
    bindings: &[Binding],
    glue: &str,
) -> String {
    let out_dim = if kernel.rotates_only() { spec.head_dim } else { spec.v_head_dim };
    let (pairs, offset) = spec.rotary.as_ref().map_or((0, 0), |r| (r.rotary_dim / 2, r.offset));
    let mut text = String::from("// Composed by ropewalk. Constants of the spec and the plan:\n");
    for (name, value) in [
        ("HEAD_DIM", spec.head_dim),
        ("HEAD_CHUNKS", spec.head_dim.div_ceil(4)),
        ("HEAD_PADDED", padded(spec.head_dim)),
        ("V_HEAD_DIM", spec.v_head_dim),
        ("V_CHUNKS", spec.v_head_dim.div_ceil(4)),
        ("V_PADDED", padded(spec.v_head_dim)),
        ("OUT_DIM", out_dim),
        ("PAIRS", pairs),
        ("ROTARY_OFFSET", offset),
        ("PAIR_ENTRIES", MAX_PAIRS as u32),
        ("POSITION_STREAMS", spec.position_streams()),
        ("TILE_Q", tile_q),
        ("TILE_K", tile_k),
    ]
    .iter()
    .chain(constants)
    {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    for Text { constant, value, .. } in spec.mask.bands().map(|band| band.text()) {
        let _ = writeln!(text, "const {constant}: i32 = {value};");
    }
    if let Some(norm) = &spec.norm {
        let _ = writeln!(text, "const NORM_LEAST: f32 = {};", wgsl_f32(norm.least()));
    }
    if let Some(temperature) = &spec.temperature {
        let _ = writeln!(text, "const TEMPERATURE_SCALE: f32 = {};", wgsl_f32(temperature.scale));
        let _ = writeln!(text, "const TEMPERATURE_BASE: f32 = {};", wgsl_f32(temperature.base));
        let _ = writeln!(text, "const TEMPERATURE_OFFSET: u32 = {}u;", temperature.offset);
        match temperature.steps {
            Steps::Floor => {
                let _ = writeln!(text, "const TEMPERATURE_FLOOR: u32 = {}u;", temperature.floor);
            }
            Steps::None { least } => {
                let _ = writeln!(text, "const TEMPERATURE_LEAST: u32 = {least}u;");
                let log = wgsl_f32((temperature.floor as f64).ln());
                let _ = writeln!(text, "const TEMPERATURE_LOG: f32 = {log};");
            }
        }
    }
    for (name, start) in TableLayout::new(spec).constants() {
        let _ = writeln!(text, "const {name}: u32 = {start}u;");
    }
    if let Some(linear) = &spec.linear {
        linear_constants(&mut text, spec, linear, tile_k);
    }
    text.push_str(LEVELS);
    for binding in bindings {
        text.push_str(&binding.declaration());
    }
    if !glue.is_empty() {
        text.push('\n');
        text.push_str(glue);
    }
    text
}

/// Constants of linear attention.
fn linear_constants(text: &mut String, spec: &Spec, linear: &Linear, tile: u32) {
    let features = spec.features();
    for (name, value) in [
        ("FEATURES", features),
        ("FEATURE_CHUNKS", features.div_ceil(4)),
        ("TILE_T", tile),
        ("V_TILES", crate::plan::linear::v_tiles(spec)),
    ] {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    let normalizer = linear.normalizer.unwrap_or(crate::equation::linear::Normalizer::new(0.0, 0.0));
    let eps = match linear.features {
        FeatureMap::Softmax { eps, .. } => eps,
        FeatureMap::Identity | FeatureMap::Elu | FeatureMap::Relu => 0.0,
    };
    for (name, value) in [
        ("EPS", normalizer.eps),
        ("EPS_FEATURE", normalizer.eps_feature),
        ("FEATURE_EPS", eps),
        ("FEATURE_SCALE", (spec.head_dim as f64).powf(-0.25)),
        ("FEATURE_RATIO", (features as f64).powf(-0.5)),
    ] {
        let _ = writeln!(text, "const {name}: f32 = {};", wgsl_f32(value));
    }
}

/// Spells a plan: kernel, storage, head, terms, tiles.
pub(crate) fn label(kernel: Kernel, spec: &Spec, aligned: bool, [tile_q, tile_k]: [u32; 2], family: &str) -> String {
    let mut label = format!("{}.{}", kernel.name(), spec.dtype.name());
    for (name, dtype) in [("k", spec.k_dtype), ("v", spec.v_dtype), ("out", spec.out_dtype)] {
        if let Some(dtype) = dtype.filter(|dtype| *dtype != spec.dtype) {
            let _ = write!(label, ".{name}-{}", dtype.name());
        }
    }
    let _ = write!(label, ".d{}", spec.head_dim);
    if spec.v_head_dim != spec.head_dim {
        let _ = write!(label, "v{}", spec.v_head_dim);
    }
    for term in spec.terms() {
        let _ = write!(label, ".{}", term.replace(' ', "-"));
    }
    let _ = write!(label, "{family}.q{tile_q}k{tile_k}");
    if !aligned {
        label.push_str(".unaligned");
    }
    label
}
