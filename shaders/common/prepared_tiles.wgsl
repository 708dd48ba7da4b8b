// What `prepare/` made, in the order in which `block` stages it: tiles of rows and of keys, an element of all of them after the other, padded to
// ROW_PADDED elements. By tokens of the tensor: packed sequences of a part share its keys.

fn prepared_q_tile(place: u32) -> u32 { return params.prepared_q + place * (ROW_PADDED * TILE_Q); }
// The tile of a token.
fn prepared_k_tile(batch: u32, kv_head: u32, token: u32) -> u32 {
    let part = (tensor_batch(batch) - tensor_batch(chunk.batch)) * chunk.kv_heads + kv_head - chunk.kv_head;
    let tiles = (params.kv_capacity + TILE_K - 1u) / TILE_K;
    return params.prepared_k + (part * tiles + token / TILE_K) * (ROW_PADDED * TILE_K);
}
// A key's slot: 64 of them together, of which slots 4 n..4 n + 3 are keys n, n + 16, n + 32, n + 48.
fn prepared_k_row(batch: u32, kv_head: u32, j: u32) -> u32 {
    let token = k_token(batch, j);
    let within = token % TILE_K;
    return prepared_k_tile(batch, kv_head, token) + within / 64u * 64u + within % 16u * 4u + within / 16u % 4u;
}
fn put_key4(start: u32, c: u32, x: vec4<f32>) { put_apart(start + 4u * c * TILE_K, TILE_K, x); }
fn put_query4(start: u32, c: u32, x: vec4<f32>) { put_apart(start + 4u * c * TILE_Q, TILE_Q, x); }
fn put_apart(at: u32, stride: u32, x: vec4<f32>) {
    work[at] = x.x;
    work[at + stride] = x.y;
    work[at + 2u * stride] = x.z;
    work[at + 3u * stride] = x.w;
}
// The token, of 64, that a lane prepares: neighbouring lanes write neighbouring slots.
fn across(lane: u32) -> u32 { return lane / 4u + lane % 4u * 16u; }
