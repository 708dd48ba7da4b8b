// The delta rule: S <- Gamma S + beta k (v - k Gamma S), beta of every token and kv head behind the decays of `dense`:
// [batch, kv_capacity, num_kv_heads].
var<workgroup> beta_tile: array<f32, TILE_T>;
fn stage_update(at: Times, lane: u32) {
    if (lane >= TILE_T) { return; }
    let j = key_at(at, lane);
    if (j < 0) { return; }
    let token = tensor_batch(at.batch) * params.kv_capacity + k_token(at.batch, u32(j));
    let word = token * (params.num_heads / params.group) + at.kv_head;
    beta_tile[lane] = bitcast<f32>(dense[params.gate_offset + word]);
}
fn update(s: ptr<function, array<vec4<f32>, FEATURE_CHUNKS>>, t: u32, v: f32) {
    var said = vec4<f32>(0.0);
    for (var c = 0u; c < feature_chunks(); c++) {
        (*s)[c] = decayed((*s)[c], t, c);
        said += k_tile[t * FEATURE_CHUNKS + c] * (*s)[c];
    }
    let joins = beta_tile[t] * (v - ((said.x + said.y) + (said.z + said.w)));
    for (var c = 0u; c < feature_chunks(); c++) { (*s)[c] += k_tile[t * FEATURE_CHUNKS + c] * joins; }
}
