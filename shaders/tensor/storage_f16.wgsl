// binary16 storage without a device feature: two elements share a u32, the lower one in the low half.
// Widening is exact (an implementation may read a subnormal as 0). Narrowing rounds to nearest even in integers, so that
// every device stores the same bits; overflow gives infinity.
alias Raw4_f16 = vec2<u32>;
alias Raw1_f16 = u32;

fn unpack4_f16(raw: Raw4_f16) -> vec4<f32> { return vec4<f32>(unpack2x16float(raw.x), unpack2x16float(raw.y)); }
fn pack4_f16(x: vec4<f32>) -> Raw4_f16 {
    return vec2<u32>(narrow_f16(x.x) | (narrow_f16(x.y) << 16u), narrow_f16(x.z) | (narrow_f16(x.w) << 16u));
}

fn word_of_f16(element: u32) -> u32 { return element >> 1u; }
fn unpack1_f16(raw: Raw1_f16, element: u32) -> f32 {
    let both = unpack2x16float(raw);
    return select(both.x, both.y, (element & 1u) == 1u);
}

// The 16 bits of x. A binary32 is sign, exponent (bias 127), 23 bits; a binary16 is sign, exponent (bias 15), 10 bits.
fn narrow_f16(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) { return sign | 0x7e00u; }                    // NaN
    if (size >= 0x477ff000u) { return sign | 0x7c00u; }                   // 65520 and above round to infinity
    if (size >= 0x38800000u) {                                           // normal: from 2^-14
        let even = (size >> 13u) & 1u;
        return sign | ((size - 0x38000000u + 0xfffu + even) >> 13u);
    }
    if (size < 0x33000000u) { return sign; }                              // below half of the least subnormal, 2^-25
    // subnormal: the significand, shifted right so that its unit is 2^-24, rounded to nearest even
    let shift = 126u - (size >> 23u);                                    // 14 to 24
    let significand = (size & 0x7fffffu) | 0x800000u;
    let even = (significand >> shift) & 1u;
    return sign | ((significand + (1u << (shift - 1u)) - 1u + even) >> shift);
}
