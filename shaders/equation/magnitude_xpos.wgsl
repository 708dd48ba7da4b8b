// xPos: zeta^((position - centre) / scale_base) for a query, the inverse for a key, 1 for a value.
//
//   e = (position - centre) * |log2 zeta / scale_base|, a 33-bit integer times a 64-bit fraction: exact to 2^-31
//   2^(+-e) = 2^(+-whole) by its bits * exp2(+-rest), |rest| <= 1/2;  e is at most 100, so nothing leaves f32
fn magnitude(position: i32, pair: u32, side: f32) -> f32 {
    if (side == 0.0) { return 1.0; }
    let entry = rotary[PAIR_ENTRIES + pair];                  // sign and stream, fraction (upper, lower word), centre
    let before = position < bitcast<i32>(entry.w);
    let ahead = bitcast<u32>(position) - entry.w;
    let distance = select(ahead, 0u - ahead, before);
    let low = distance * entry.y;
    let fraction = low + mul_high(distance, entry.z);
    let floor_of_e = mul_high(distance, entry.y) + select(0u, 1u, fraction < low);
    let limited = floor_of_e >= 100u;
    let whole = select(floor_of_e + (fraction >> 31u), 100u, limited);
    let rest = select(f32(bitcast<i32>(fraction)) * 2.3283064365386963e-10, 0.0, limited);
    // zeta is below 1: a query before the centre grows; the highest bit of the entry turns that round
    let grows = (before != (side < 0.0)) != ((entry.x >> 31u) == 1u);
    let power = bitcast<f32>(select(127u - whole, 127u + whole, grows) << 23u);
    return power * exp2(select(-rest, rest, grows));
}
