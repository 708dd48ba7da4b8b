// Parts of a row: what one split of the keys makes of it, o, m, l in f32 in `work`, for `combine`.
const PART_WORDS: u32 = 4u * V_CHUNKS + 4u;

// The keys of a split that some row sees; none: .x >= .y.
fn split_keys(batch: u32, rows: u32, split: u32) -> vec2<u32> {
    let range = key_range(batch, 0u, (rows - 1u) / params.group);
    return vec2<u32>(max(range.x, split * params.split_keys), min(range.y, (split + 1u) * params.split_keys));
}

fn part_at(batch: u32, kv_head: u32, split: u32, packed: u32) -> u32 {
    let head = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.partials + ((head * params.splits + split) * ROWS + packed) * PART_WORDS;
}
fn put_part(part: u32, c: u32, x: vec4<f32>) { work4[part / 4u + c] = x; }
fn end_part(part: u32, m: f32, l: f32, nan: bool) { work4[part / 4u + V_CHUNKS] = vec4<f32>(m, l, select(0.0, 1.0, nan), 0.0); }

fn exp_of4(x: vec4<f32>) -> vec4<f32> { return exp2(max(x * LOG2_E, vec4<f32>(-200.0))); }

// 1 where a score is poisoned: numbers can be exchanged between lanes.
fn poison_of(s: vec4<f32>) -> vec4<u32> { return select(vec4<u32>(0u), vec4<u32>(1u), poisoned4(s)); }
// Scores at least SCORE_FLOOR, but for marked ones; poisoned ones (their row is NaN whatever its weights are) as SCORE_FLOOR.
fn floored(s: vec4<f32>) -> vec4<f32> {
    let floor = vec4<f32>(SCORE_FLOOR);
    return select(select(max(s, floor), s, s == vec4<f32>(MASKED)), floor, poisoned4(s));
}
// Weights, -1 where a score is marked.
fn marked(p: vec4<f32>, s: vec4<f32>) -> vec4<f32> { return select(p, vec4<f32>(-1.0), s < vec4<f32>(SCORE_FLOOR)); }
fn weight(p: vec4<f32>) -> vec4<f32> { return max(p, vec4<f32>(0.0)); }

// Cap, terms and visibility of key j for four rows.
fn finish4(t: vec4<f32>, batch: u32, kv_head: u32, first_row: u32, rows: u32, j: u32) -> vec4<f32> {
    var s = vec4<f32>(MASKED);
    for (var r = 0u; r < min(4u, rows - first_row); r++) {
        let packed = first_row + r;
        let i = packed / params.group;
        var at = ScoreAt(batch, kv_head * params.group + packed % params.group, i, j, q_index(batch, i), q_position(batch, i), 0);
        if (visible(at)) {
            at.k_pos = k_position(batch, j);
            s[r] = finish1(t[r], at);
        }
    }
    return s;
}
fn finish1(t: f32, at: ScoreAt) -> f32 {
    if (is_nan(t)) { return t; }                                           // a driver's comparisons in cap may lose it
    let s = modified_score(cap(t) + score_terms(at), at);
    if (is_nan(s)) { return s; }
    return max(s, SCORE_FLOOR);
}
