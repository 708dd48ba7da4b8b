// R_v: a tile of TILE_K values in workgroup memory, rotated by their keys' positions (RoFormer's rotary_value). Beside k_tile:
// 16 bytes x (HEAD_PADDED + V_PADDED) x TILE_K, at most 16 KiB together.
var<workgroup> v_tile: array<vec4<f32>, TILE_K * V_PADDED>;

// Lane l rotates value row first + l. The window lies in what q and k have too, so a Row holds it; the rest is copied.
fn stage_v(batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) {
    let j = first + lane;
    if (lane >= TILE_K || j >= end) { return; }
    var row: Row;
    let start = v_row(batch, j, kv_head);
    let shared_chunks = min(head_chunks(), v_chunks());
    for (var c = 0u; c < shared_chunks; c++) { row[c] = v4(start, c); }
    rotate_row(&row, k_positions(batch, j), 0.0);
    for (var c = 0u; c < shared_chunks; c++) { v_tile[lane * V_PADDED + c] = row[c]; }
    for (var c = shared_chunks; c < v_chunks(); c++) { v_tile[lane * V_PADDED + c] = v4(start, c); }
    for (var c = v_chunks(); c < v_padded(); c++) { v_tile[lane * V_PADDED + c] = vec4<f32>(0.0); }
}
fn value4(start: u32, slot: u32, c: u32) -> vec4<f32> { return v_tile[slot * V_PADDED + c]; }
