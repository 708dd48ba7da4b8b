// What `prepare/` made. `main` reads it by vectors, `work4`: the binding of `work` a second time, which an entry point uses instead.

// Where the prepared rows of a tile start, a key's, and its value's behind it. Of KEYS_TOGETHER keys the first vec4 stand together, then the
// second ones: what the lanes of a subgroup load at once. By tokens of the tensor: packed sequences of a part share its keys.
fn prepared_q_tile(place: u32) -> u32 { return params.prepared_q + place * (4u * HEAD_CHUNKS * TILE_Q); }
fn prepared_k_row(batch: u32, kv_head: u32, j: u32) -> u32 {
    let part = (tensor_batch(batch) - tensor_batch(chunk.batch)) * chunk.kv_heads + kv_head - chunk.kv_head;
    let capacity = (params.kv_capacity + KEYS_TOGETHER - 1u) / KEYS_TOGETHER * KEYS_TOGETHER;
    let token = k_token(batch, j);
    let within = token % KEYS_TOGETHER;
    return params.prepared_k + (part * capacity + token - within) * KEY_WORDS + 4u * within;
}
fn prepared_v_row(batch: u32, kv_head: u32, j: u32) -> u32 { return prepared_k_row(batch, kv_head, j) + KEYS_TOGETHER * VALUE_WORD; }
fn prepared4(at: u32) -> vec4<f32> { return work4[at / 4u]; }
fn put_key4(start: u32, c: u32, x: vec4<f32>) { work4[start / 4u + c * KEYS_TOGETHER] = x; }
fn put_query4(start: u32, c: u32, x: vec4<f32>) {
    let at = start + 4u * c * TILE_Q;
    work[at] = x.x;
    work[at + TILE_Q] = x.y;
    work[at + 2u * TILE_Q] = x.z;
    work[at + 3u * TILE_Q] = x.w;
}
// The token, of ACROSS, that a lane prepares.
fn across(lane: u32) -> u32 { return lane; }
