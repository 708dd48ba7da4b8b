// A tile of TILE_K keys in workgroup memory, rotated once as near keys and, behind them, once as far ones for all rows of the workgroup.
// 32 bytes x HEAD_PADDED x TILE_K, at most 16 KiB.
const FAR_TILE: u32 = TILE_K * HEAD_PADDED;
var<workgroup> k_tile: array<vec4<f32>, 2u * FAR_TILE>;

// Lane l rotates key row first + l. Rows from `end` on (beyond kv_len) are not read. Both turns are rounds of a loop, so that compilers have one.
fn stage_k(batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) {
    let j = first + lane;
    if (lane >= TILE_K || j >= end) { return; }
    let k_start = k_row(batch, j, kv_head);
    let n = k_positions(batch, j);
    for (var far = 0u; far < 2u; far++) {
        var row: Row;
        for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(k_start, c); }
        turn_key(&row, select(n, branch_key(n), far == 1u));
        let place = far * FAR_TILE + lane * HEAD_PADDED;
        for (var c = 0u; c < head_padded(); c++) { k_tile[place + c] = row[c]; }
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
        for (var c = 0u; c < head_padded(); c++) { sum += q_far[c] * k_tile[FAR_TILE + slot * HEAD_PADDED + c]; }
    } else {
        for (var c = 0u; c < head_padded(); c++) { sum += (*q_rotated)[c] * k_tile[slot * HEAD_PADDED + c]; }
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
