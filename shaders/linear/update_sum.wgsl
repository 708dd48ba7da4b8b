// S <- Gamma S + k v.
fn stage_update(at: Times, lane: u32) {}
fn update(s: ptr<function, array<vec4<f32>, FEATURE_CHUNKS>>, t: u32, v: f32) {
    for (var c = 0u; c < feature_chunks(); c++) {
        (*s)[c] = decayed((*s)[c], t, c) + k_tile[t * FEATURE_CHUNKS + c] * v;
    }
}
