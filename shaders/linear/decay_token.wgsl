// exp(g), g of every token and kv head: `dense` is [batch, kv_capacity, num_kv_heads].
var<workgroup> decay_tile: array<f32, TILE_T>;
fn stage_decay(at: Times, lane: u32) {
    if (lane >= TILE_T) { return; }
    let j = key_at(at, lane);
    if (j < 0) { return; }
    let token = tensor_batch(at.batch) * params.kv_capacity + k_token(at.batch, u32(j));
    let word = token * (params.num_heads / params.group) + at.kv_head;
    decay_tile[lane] = exp_of(bitcast<f32>(dense[params.dense_offset + word]));
}
fn decayed(s: vec4<f32>, t: u32, c: u32) -> vec4<f32> { return s * decay_tile[t]; }
