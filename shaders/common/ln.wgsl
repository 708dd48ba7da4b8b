// ln x of a normal x > 0, our own: WGSL's log may be off by 2^-21 near 1, where ln is small.
//
//   x = 2^e (1 + f),  sqrt(1/2) <= 1 + f < sqrt(2)
//   ln x = e ln 2 + f - f^2/2 + f^3 P(f)      P: minimax fit, relative error of ln(1 + f) 6e-9
//
// |error| <= 3 u |ln x|, u = 2^-24; ln 1 is 0. Measured over every f: 1.4 u, in another order of additions 1.8 u.
fn ln_f32(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let e = bitcast<i32>(bits - 0x3f3504f3u) >> 23u;
    let f = bitcast<f32>(bits - (bitcast<u32>(e) << 23u)) - 1.0;
    let z = f * f;
    let p = 0.333333313465 + f * (-0.250008195639 + f * (0.200012266636 + f * (-0.166233569384 +
        f * (0.142017573118 + f * (-0.131601825357 + f * (0.12761577964 + f * -0.0763449743390))))));
    // 0.693359375 has ten bits, so that its product with e is exact
    let size = f32(e);
    return size * 0.693359375 + (f + (f * z * p - 0.5 * z + size * -0.000212194442));
}
