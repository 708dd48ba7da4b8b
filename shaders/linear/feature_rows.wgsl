// Features that are functions of one element: lane t makes those of key t, lane 32 + t those of query t.
fn prepare_times() -> u32 { return 0u; }
fn prepare(at: Times, unit: u32, lane: u32) {}

fn stage_features(at: Times, unit: u32, lane: u32) {
    let t = lane % 32u;
    if (t >= TILE_T) { return; }
    var row: Row;
    let j = key_at(at, t);
    let i = query_at(at, t);
    if (lane < 32u) {
        if (j >= 0) {
            let start = k_row(at.batch, u32(j), at.kv_head);
            for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(start, c); }
            rotate_input(&row, k_positions(at.batch, u32(j)), -1.0);
            feature_row(&row);
        }
        for (var c = 0u; c < feature_chunks(); c++) { k_tile[t * FEATURE_CHUNKS + c] = row[c]; }
    } else {
        if (i >= 0) {
            let start = q_row(at.batch, u32(i), at.head);
            for (var c = 0u; c < head_chunks(); c++) { row[c] = q4(start, c); }
            rotate_input(&row, q_positions(at.batch, u32(i)), 1.0);
            feature_row(&row);
        }
        for (var c = 0u; c < feature_chunks(); c++) { q_tile[t * FEATURE_CHUNKS + c] = row[c]; }
    }
}
