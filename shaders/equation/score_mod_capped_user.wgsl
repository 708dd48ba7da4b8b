// s <- score_mod(c tanh(s / c), at), the user's function, which the file `score_mod` holds. By bits: a NaN stays one whatever the
// function makes of it, +inf is taken for one, and -inf for a score below SCORE_FLOOR.
fn modified_score(s: f32, at: ScoreAt) -> f32 {
    if (is_nan(s)) { return s; }
    let modified = score_mod(params.soft_cap * tanh_f32(s * params.inv_soft_cap), user_at(at));
    let bits = bitcast<u32>(modified);
    return select(select(modified, SCORE_FLOOR, bits == 0xff800000u), bitcast<f32>(bits | 0x7fc00000u), bits == 0x7f800000u);
}
