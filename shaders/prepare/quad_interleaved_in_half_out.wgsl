// Pair p is read at 2p and 2p + 1 of the rotary window and written at p and p + PAIRS: never in place, since other lanes read
// what this one writes.
fn quad_pairs(unit: u32) -> vec4<u32> { return vec4<u32>(4u * unit) + vec4<u32>(0u, 1u, 2u, 3u); }
fn quad_source(unit: u32) -> vec2<u32> { return vec2<u32>(2u * unit, 2u * unit + 1u) + ROTARY_OFFSET / 4u; }
fn quad_target(unit: u32) -> vec2<u32> { return vec2<u32>(unit, unit + QUADS) + ROTARY_OFFSET / 4u; }
fn quad_apart(x: vec4<f32>, y: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(vec4<f32>(x.xz, y.xz), vec4<f32>(x.yw, y.yw));
}
fn quad_together(a: vec4<f32>, b: vec4<f32>) -> mat2x4<f32> { return mat2x4<f32>(a, b); }
