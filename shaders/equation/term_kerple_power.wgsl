// KERPLE's power kernel: -a d^p, d = |m - n|, 0 < p <= 2. p and a of a head stand side by side.
//
//   d = 2^w x, 1 <= x <= 2;   d^p = 2^E, E = p w + p log2 x
//
// E is at most 62, and an error of E is a relative error of the power: p w is made in integers of 2^-24.
fn term_kerple_power(at: ScoreAt, first: u32) -> f32 {
    let p = tables[first + 2u * at.head];
    let a = tables[first + 2u * at.head + 1u];
    let d = u32(abs(distance(at)));
    if (d == 0u) { return 0.0; }
    let w = firstLeadingBit(d);
    let x = f32(d << (31u - w)) * 4.656612873077393e-10;                   // 2^-31
    let steps = u32(p * 1073741824.0);                                     // p in 2^-30, at most 2^31
    let whole = (((steps >> 16u) * w) << 10u) + (((steps & 0xffffu) * w) >> 6u);
    let e = whole + u32(p * (ln_f32(x) * LOG2_E) * 16777216.0);
    return -a * (exp2(f32(e & 0xffffffu) * 5.960464477539063e-8) * bitcast<f32>(((e >> 24u) + 127u) << 23u));
}
