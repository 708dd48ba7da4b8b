// Exact phase: position * inc mod 2^64, where inc is the frequency's increment in 2^-64 turns. Integers only, so the
// phase has the same bits on every device; it is at most 2^-32 turns (1.5e-9 rad) below the exact one.
fn angle(position: i32, pair: u32) -> vec2<f32> {
    return cos_sin_of_phase(exact_phase(position, rotary[pair].xy)) * bitcast<f32>(rotary[pair].w);
}

// inc = (upper, lower) word. A negative position is its two's complement less 2^32, hence the borrow.
fn exact_phase(position: i32, inc: vec2<u32>) -> u32 {
    let p = bitcast<u32>(position);
    let product = p * inc.x + mul_high(p, inc.y);
    return select(product, product - inc.y, position < 0);
}
