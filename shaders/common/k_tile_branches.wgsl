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
    turn_key(&far, branch_key(k_positions(batch, j)));
    for (var c = 0u; c < head_padded(); c++) {
        k_tile[lane * HEAD_PADDED + c] = row[c];
        far_tile[lane * HEAD_PADDED + c] = far[c];
    }
}

// m - n, which may be 2^32 - 1, against the window.
fn is_far(at: ScoreAt) -> bool {
    return at.q_pos > at.k_pos && bitcast<u32>(at.q_pos) - bitcast<u32>(at.k_pos) >= BRANCH_WINDOW;
}

// q . k, for the key in row `slot` of the tile; HEAD_CHUNKS additions deep, then two.
fn product_of(q_rotated: ptr<function, Row>, slot: u32, at: ScoreAt) -> f32 {
    var sum = vec4<f32>(0.0);
    if (is_far(at)) {
        for (var c = 0u; c < head_padded(); c++) { sum += q_far[c] * far_tile[slot * HEAD_PADDED + c]; }
    } else {
        for (var c = 0u; c < head_padded(); c++) { sum += (*q_rotated)[c] * k_tile[slot * HEAD_PADDED + c]; }
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
