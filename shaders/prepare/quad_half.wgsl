// Pair p is elements p and p + PAIRS of the rotary window: the vec4 of pairs 4 unit..4 unit + 3 in each half.
fn quad_pairs(unit: u32) -> vec4<u32> { return vec4<u32>(4u * unit) + vec4<u32>(0u, 1u, 2u, 3u); }
fn quad_source(unit: u32) -> vec2<u32> { return vec2<u32>(unit, unit + QUADS) + ROTARY_OFFSET / 4u; }
fn quad_target(unit: u32) -> vec2<u32> { return quad_source(unit); }
fn quad_apart(x: vec4<f32>, y: vec4<f32>) -> mat2x4<f32> { return mat2x4<f32>(x, y); }
fn quad_together(a: vec4<f32>, b: vec4<f32>) -> mat2x4<f32> { return mat2x4<f32>(a, b); }
