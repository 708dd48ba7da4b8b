// s = score_mod(cap(q . k) + terms), for the key in row `slot` of the tile.
fn score(q_rotated: ptr<function, Row>, q_rows: ptr<function, QueryRows>, slot: u32, at: ScoreAt) -> f32 {
    let t = product_of(q_rotated, slot, at);
    if (is_nan(t)) { return t; }                             // a driver's comparisons in cap may lose it
    let s = modified_score(cap(t) + relative_terms(q_rows, at) + score_terms(at), at);
    if (is_nan(s)) { return s; }
    return max(s, SCORE_FLOOR);                              // finite, so that no exponent overflows
}
