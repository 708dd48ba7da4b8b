// Exact phase: position * inc mod 2^64, where inc is the frequency's increment in 2^-64 turns. Integers only, so the
// phase has the same bits on every device; it is at most 2^-32 turns (1.5e-9 rad) below the exact one.
fn angle(position: i32, pair: u32) -> vec2<f32> {
    return cos_sin_of_phase(exact_phase(position, rotary[pair].xy)) * bitcast<f32>(rotary[pair].w);
}
