// Rotation stands after the feature map (RoFormer, section 3.3): the denominator has read the tile by now.
fn rotate_input(row: ptr<function, Row>, position: Position, side: f32) {}

fn rotate_tile(at: Times, lane: u32) {
    let t = lane % 32u;
    let is_key = lane < 32u;
    let j = key_at(at, t);
    let i = query_at(at, t);
    var row: Row;
    if (is_key && t < TILE_T && j >= 0) {
        for (var c = 0u; c < feature_chunks(); c++) { row[c] = k_tile[t * FEATURE_CHUNKS + c]; }
        rotate_row(&row, k_positions(at.batch, u32(j)), -1.0);
        for (var c = 0u; c < feature_chunks(); c++) { k_tile[t * FEATURE_CHUNKS + c] = row[c]; }
    }
    if (!is_key && t < TILE_T && i >= 0) {
        for (var c = 0u; c < feature_chunks(); c++) { row[c] = q_tile[t * FEATURE_CHUNKS + c]; }
        rotate_row(&row, q_positions(at.batch, u32(i)), 1.0);
        for (var c = 0u; c < feature_chunks(); c++) { q_tile[t * FEATURE_CHUNKS + c] = row[c]; }
    }
    workgroupBarrier();
}
