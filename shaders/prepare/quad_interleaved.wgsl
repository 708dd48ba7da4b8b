// Pair p is elements 2p and 2p + 1 of the rotary window: two vec4 hold two pairs each, and stand half a window apart, so that
// neighbouring lanes read neighbouring vec4.
fn quad_pairs(unit: u32) -> vec4<u32> { return vec4<u32>(2u * unit) + vec4<u32>(0u, 1u, PAIRS / 2u, PAIRS / 2u + 1u); }
fn quad_source(unit: u32) -> vec2<u32> { return vec2<u32>(unit, unit + QUADS) + ROTARY_OFFSET / 4u; }
fn quad_target(unit: u32) -> vec2<u32> { return quad_source(unit); }
fn quad_apart(x: vec4<f32>, y: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(vec4<f32>(x.xz, y.xz), vec4<f32>(x.yw, y.yw));
}
fn quad_together(a: vec4<f32>, b: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(vec4<f32>(a.x, b.x, a.y, b.y), vec4<f32>(a.z, b.z, a.w, b.w));
}
