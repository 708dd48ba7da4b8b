// Elements 4c.. of a new row of fp8 e4m3, to nearest, ties to even; what is larger than all numbers is the largest.
fn quantise_f8_e4m3(row: u32, c: u32, dim: u32) {
    begin_words(place_f8_e4m3(row, c, dim).x);
    for (var n = c; n < min(c + steps(8u), dim / 4u); n++) { put32(bytes_of(narrow_f8_e4m3(given4(n)))); }
}
fn narrow_f8_e4m3(x: vec4<u32>) -> vec4<u32> {
    let size = size4(x);
    let top = min(size, vec4<u32>(0x43e00000u));                           // 448
    let normal = (top - vec4<u32>(120u << 23u) + vec4<u32>(0x7ffffu) + ((top >> vec4<u32>(20u)) & vec4<u32>(1u))) >> vec4<u32>(20u);
    // below 2^-6 the unit is 2^-9: the significand, shifted right, rounded to nearest even
    let shift = min(vec4<u32>(141u) - min(top >> vec4<u32>(23u), vec4<u32>(120u)), vec4<u32>(31u));
    let significand = (top & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let even = (significand >> shift) & vec4<u32>(1u);
    let small = (significand + (vec4<u32>(1u) << (shift - vec4<u32>(1u))) - vec4<u32>(1u) + even) >> shift;
    let number = ((x >> vec4<u32>(24u)) & vec4<u32>(128u)) | select(normal, small, top < vec4<u32>(0x3c800000u));
    return select(number, vec4<u32>(127u), size > vec4<u32>(0x7f800000u));
}
