// The float32 angle f32(position) * f32(inv_freq), as most frameworks compute it, then reduced exactly: the product's
// 24-bit significand M, at exponent E, times 1/(2 pi) as a 96-bit fraction, in integers.
fn angle(position: i32, pair: u32) -> vec2<f32> {
    let radians = f32(position) * bitcast<f32>(rotary[pair].z);
    return cos_sin_of_phase(phase_of_radians(radians)) * bitcast<f32>(rotary[pair].w);
}

fn phase_of_radians(radians: f32) -> u32 {
    let bits = bitcast<u32>(radians);
    let exponent = i32((bits >> 23u) & 0xffu) - 150;          // radians = M * 2^exponent
    let m = (bits & 0x7fffffu) | 0x800000u;
    if (exponent < -90) { return 0u; }                       // below 2^-66 rad, and 0
    // P = M * floor(2^96 / 2 pi), 120 bits in four words, least first; the turns are P * 2^(exponent - 96)
    let w0 = 0x7f09d5f4u; let w1 = 0x9391054au; let w2 = 0x28be60dbu;
    let p0 = m * w0;
    let c0 = mul_high(m, w0);
    let p1 = m * w1 + c0;
    let c1 = mul_high(m, w1) + select(0u, 1u, p1 < c0);
    let p2 = m * w2 + c1;
    let p3 = mul_high(m, w2) + select(0u, 1u, p2 < c1);
    // the 32 bits below the binary point: P shifted right by 64 - exponent
    let shift = u32(64 - exponent);
    var words = array<u32, 6>(p0, p1, p2, p3, 0u, 0u);
    let word = min(shift >> 5u, 4u);                         // infinite radians have no phase
    let low = words[word] >> (shift & 31u);
    let high = select(words[word + 1u] << (32u - (shift & 31u)), 0u, (shift & 31u) == 0u);
    let phase = low | high;
    return select(phase, 0u - phase, (bits >> 31u) == 1u);
}
