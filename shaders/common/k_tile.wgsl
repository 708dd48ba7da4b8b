// A tile of TILE_K keys in workgroup memory, rotated once for all rows of the workgroup.
// 16 bytes x HEAD_PADDED x TILE_K, at most 16 KiB.
var<workgroup> k_tile: array<vec4<f32>, TILE_K * HEAD_PADDED>;

// Lane l rotates key row first + l. Rows from `end` on (beyond kv_len) are not read.
fn stage_k(batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) {
    let j = first + lane;
    if (lane >= TILE_K || j >= end) { return; }
    var row: Row;
    let k_start = k_row(batch, j, kv_head);
    for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(k_start, c); }
    prepare_key(&row, batch, j);
    for (var c = 0u; c < head_padded(); c += 4u) {
        let at = lane * HEAD_PADDED + c;
        k_tile[at] = row[c];
        k_tile[at + 1u] = row[c + 1u];
        k_tile[at + 2u] = row[c + 2u];
        k_tile[at + 3u] = row[c + 3u];
    }
}

// q . k, for the key in row `slot` of the tile; HEAD_CHUNKS additions deep, then two.
fn product_of(q_rotated: ptr<function, Row>, slot: u32, at: ScoreAt) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < head_padded(); c += 4u) {
        let at = slot * HEAD_PADDED + c;
        sum += (*q_rotated)[c] * k_tile[at];
        sum += (*q_rotated)[c + 1u] * k_tile[at + 1u];
        sum += (*q_rotated)[c + 2u] * k_tile[at + 2u];
        sum += (*q_rotated)[c + 3u] * k_tile[at + 3u];
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
