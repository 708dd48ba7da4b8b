// cos and sin of a phase, a fraction of a turn in 2^-32. No use of the driver's sin and cos, which WGSL promises to
// 2^-11 only, and only near 0.
//
//   nearest quarter turn   quarter = round(phase / 2^30)
//   the rest, in radians   x = (phase - quarter * 2^30) * 2 pi / 2^32,  |x| <= pi/4
//   minimax polynomials    sin x = x + x^3 (..), error 1.8e-9;  cos x = 1 - x^2/2 + x^4 (..), error 1e-10
//   turn by quarters       (c,s) (-s,c) (-c,-s) (s,-c)
fn cos_sin_of_phase(phase: u32) -> vec2<f32> {
    let quarter = (phase + 0x20000000u) >> 30u;
    let rest = bitcast<i32>(phase - (quarter << 30u));
    let x = f32(rest) * 1.4629180792671596e-9;
    let z = x * x;
    let s = x + x * z * (-0.166666506693 + z * (0.00833197866306 + z * -0.000194956362278));
    let c = 1.0 - 0.5 * z + z * z * (0.0416666468665 + z * (-0.00138873675163 + z * 2.44384516503e-5));
    let turned = select(vec2<f32>(c, s), vec2<f32>(-s, c), (quarter & 1u) == 1u);
    return select(turned, -turned, (quarter & 2u) == 2u);
}

// The upper 32 bits of a * b, by 16-bit halves.
fn mul_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu; let a1 = a >> 16u;
    let b0 = b & 0xffffu; let b1 = b >> 16u;
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 16u);
    let mid2 = a0 * b1 + (mid & 0xffffu);
    return a1 * b1 + (mid >> 16u) + (mid2 >> 16u);
}

// position * inc mod 2^64 in turns, its upper word; inc = (upper, lower) word. A negative position is its two's complement
// less 2^32, hence the borrow.
fn exact_phase(position: i32, inc: vec2<u32>) -> u32 {
    let p = bitcast<u32>(position);
    let product = p * inc.x + mul_high(p, inc.y);
    return select(product, product - inc.y, position < 0);
}
