// fp8 e4m3: a byte an element, four of them a word: a sign, an exponent of four bits with bias 7, three bits; 127 is NaN. Widened in integers,
// exactly.

// The half words of nothing, of nothing more, and of the four elements.
fn place_f8_e4m3(row: u32, c: u32, dim: u32) -> vec3<u32> { return vec3<u32>((row >> 1u) + 2u * c); }
fn unpack_f8_e4m3(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let bits = (vec4<u32>(quants) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    let size = bits & vec4<u32>(127u);
    let normal = (size << vec4<u32>(20u)) + vec4<u32>(120u << 23u);
    let small = bitcast<vec4<u32>>(vec4<f32>(size) * 0.001953125);                 // subnormals: units of 2^-9
    let finite = select(normal, small, size < vec4<u32>(8u));
    let number = select(finite, vec4<u32>(0x7fc00000u), size == vec4<u32>(127u));
    return bitcast<vec4<f32>>(number | ((bits & vec4<u32>(128u)) << vec4<u32>(24u)));
}
