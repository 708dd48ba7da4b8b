// bfloat16 storage: the upper half of a binary32; two elements share a u32, the lower one in the low half.
// Widening is a shift. Narrowing rounds to nearest even in integers: the same bits on every device.
alias Raw4_bf16 = vec2<u32>;
alias Raw1_bf16 = u32;

fn unpack4_bf16(raw: Raw4_bf16) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(raw.x << 16u, raw.x & 0xffff0000u, raw.y << 16u, raw.y & 0xffff0000u));
}
fn pack4_bf16(x: vec4<f32>) -> Raw4_bf16 {
    return vec2<u32>(narrow_bf16(x.x) | (narrow_bf16(x.y) << 16u), narrow_bf16(x.z) | (narrow_bf16(x.w) << 16u));
}

fn word_of_bf16(element: u32) -> u32 { return element >> 1u; }
fn unpack1_bf16(raw: Raw1_bf16, element: u32) -> f32 {
    return bitcast<f32>(select(raw << 16u, raw & 0xffff0000u, (element & 1u) == 1u));
}

fn narrow_bf16(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }   // NaN stays NaN
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
