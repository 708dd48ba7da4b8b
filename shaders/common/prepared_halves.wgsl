// What `prepare/` made for `coop`, in fours of f16, in the order in which it is staged: rows of queries, a tile's one after the other; tiles of TILE_K keys, each
// of them its keys, its values by columns, and two fours that are not 0 where a value was not finite. `work_half` is the binding of `work` a second time, which an
// entry point uses instead.
const K_FOURS: u32 = TILE_K * HEAD_CHUNKS;
const V_FOURS: u32 = TILE_K * V_CHUNKS;

// The first row of a tile, which is a number here: see `put_query4`.
fn prepared_q_tile(place: u32) -> u32 { return place * TILE_Q; }
fn put_query4(row: u32, c: u32, x: vec4<f32>) { work_half[params.prepared_q / 2u + row * HEAD_CHUNKS + c] = vec4<f16>(x); }
// A tile of keys: its first four, which has an even number, so that compilers load two at once.
fn prepared_k_tile(batch: u32, kv_head: u32, tile: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    let tiles = (params.kv_capacity + TILE_K - 1u) / TILE_K;
    return 2u * (params.prepared_k / 4u + (part * tiles + tile) * ((K_FOURS + V_FOURS) / 2u + 1u));
}
fn prepared_k_row(batch: u32, kv_head: u32, j: u32) -> u32 {
    return prepared_k_tile(batch, kv_head, j / TILE_K) + j % TILE_K * HEAD_CHUNKS;
}
fn put_key4(start: u32, c: u32, x: vec4<f32>) { work_half[start + c] = vec4<f16>(x); }
// The token, of ACROSS, that a lane prepares.
fn across(lane: u32) -> u32 { return lane; }
