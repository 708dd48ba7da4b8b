// The cap stands behind every term: c tanh(s / c).
fn modified_score(s: f32, at: ScoreAt) -> f32 {
    if (is_nan(s)) { return s; }                             // a driver's comparisons may lose it
    return params.soft_cap * tanh_f32(s * params.inv_soft_cap);
}
