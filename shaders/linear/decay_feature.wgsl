// exp(g), g of every token, kv head and feature: `dense` is [batch, kv_capacity, num_kv_heads, FEATURES].
var<workgroup> decay_tile: array<vec4<f32>, TILE_T * FEATURE_CHUNKS>;
fn stage_decay(at: Times, lane: u32) {
    for (var n = lane; n < TILE_T * FEATURE_CHUNKS; n += TILE_Q) {
        let j = key_at(at, n / FEATURE_CHUNKS);
        var g = vec4<f32>(0.0);
        if (j >= 0) {
            let token = tensor_batch(at.batch) * params.kv_capacity + k_token(at.batch, u32(j));
            let row = params.dense_offset + (token * (params.num_heads / params.group) + at.kv_head) * FEATURES;
            let f = 4u * (n % FEATURE_CHUNKS);
            g = vec4<f32>(g_or_0(row, f), g_or_0(row, f + 1u), g_or_0(row, f + 2u), g_or_0(row, f + 3u));
        }
        decay_tile[n] = vec4<f32>(exp_of(g.x), exp_of(g.y), exp_of(g.z), exp_of(g.w));
    }
}
fn g_or_0(row: u32, feature: u32) -> f32 {
    if (feature >= FEATURES) { return 0.0; }
    return bitcast<f32>(dense[row + feature]);
}
fn decayed(s: vec4<f32>, t: u32, c: u32) -> vec4<f32> { return s * decay_tile[t * FEATURE_CHUNKS + c]; }
