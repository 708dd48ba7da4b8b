// s = score_mod(cap(t) + terms), of one key and four rows.
fn scores_of(t: vec4<f32>, at0: ScoreAt, at1: ScoreAt, at2: ScoreAt, at3: ScoreAt) -> vec4<f32> {
    let n = k_position(at0.batch, at0.j);
    return vec4<f32>(score_of(t.x, at0, n), score_of(t.y, at1, n), score_of(t.z, at2, n), score_of(t.w, at3, n));
}
fn score_of(t: f32, place: ScoreAt, k_pos: i32) -> f32 {
    if (is_nan(t)) { return t; }                             // a driver's comparisons in cap may lose it
    var at = place;
    at.k_pos = k_pos;
    var rows: QueryRows;                                     // all of its products are made beforehand
    load_query_rows(&rows, 0u, at, at.i * params.group + at.head % params.group);
    return modified_score(cap(t) + relative_terms(&rows, at) + score_terms(at), at);
}
