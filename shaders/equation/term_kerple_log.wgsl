// KERPLE's logarithmic kernel: -p ln(1 + a |m - n|). p and a of a head stand side by side.
fn term_kerple_log(at: ScoreAt, first: u32) -> f32 {
    let p = tables[first + 2u * at.head];
    let a = tables[first + 2u * at.head + 1u];
    return -p * ln_f32(1.0 + a * f32(abs(distance(at))));
}
