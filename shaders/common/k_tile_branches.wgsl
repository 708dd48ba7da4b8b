// A tile of TILE_K keys in workgroup memory, rotated once as near keys and once as far ones for all rows of the workgroup.
// 32 bytes x HEAD_PADDED x TILE_K, at most 16 KiB.
var<workgroup> k_tile: array<vec4<f32>, TILE_K * HEAD_PADDED>;
var<workgroup> far_tile: array<vec4<f32>, TILE_K * HEAD_PADDED>;

// Lane l rotates key row first + l. Rows from `end` on (beyond kv_len) are not read.
fn stage_k(batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) {
    let j = first + lane;
    if (lane >= TILE_K || j >= end) { return; }
    var row: Row;
    let k_start = k_row(batch, j, kv_head);
    for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(k_start, c); }
    var far = row;
    prepare_key(&row, batch, j);
    norm_before(&far, true);
    rotate_row(&far, branch_key(k_positions(batch, j)), -1.0);
    norm_after(&far, true);
    for (var c = 0u; c < head_padded(); c++) {
        k_tile[lane * HEAD_PADDED + c] = row[c];
        far_tile[lane * HEAD_PADDED + c] = far[c];
    }
}

// m - n, which may be 2^32 - 1, against the window.
fn is_far(at: ScoreAt) -> bool {
    return at.q_pos > at.k_pos && bitcast<u32>(at.q_pos) - bitcast<u32>(at.k_pos) >= BRANCH_WINDOW;
}

// s = score_mod(cap(q . k) + terms), for the key in row `slot` of the tile; HEAD_CHUNKS additions deep, then two.
fn score(q_rotated: ptr<function, Row>, q_rows: ptr<function, QueryRows>, slot: u32, at: ScoreAt) -> f32 {
    var sum = vec4<f32>(0.0);
    if (is_far(at)) {
        for (var c = 0u; c < head_padded(); c++) { sum += q_far[c] * far_tile[slot * HEAD_PADDED + c]; }
    } else {
        for (var c = 0u; c < head_padded(); c++) { sum += (*q_rotated)[c] * k_tile[slot * HEAD_PADDED + c]; }
    }
    let t = (sum.x + sum.y) + (sum.z + sum.w);
    if (is_nan(t)) { return t; }                             // a driver's comparisons in cap may lose it
    let s = modified_score(cap(t) + relative_terms(q_rows, at) + score_terms(at), at);
    if (is_nan(s)) { return s; }
    return max(s, SCORE_FLOOR);                              // finite, so that no exponent overflows
}
