// cos and sin of a sum of angles, one for each position stream, for the first and for the second element of a pair. Turns add up modulo
// 2^64 as integers: the phase is that of the exact sum, cut off at 2^-32 turns. TABLE_TURNS holds the increments of
// [heads, PAIRS, TURN_ANGLES, TURN_STREAMS], each as four numbers of 16 bits, the highest first.
fn turn_of(position: Position, pair: u32, side: f32) -> vec4<f32> {
    let first = (turning_head() * PAIRS + pair) * TURN_ANGLES;
    let factor = bitcast<f32>(rotary[pair].w);
    let x = cos_sin_of_phase(sum_of_turns(position, first)) * factor;
    if (TURN_ANGLES == 1u) { return vec4<f32>(x, x); }
    return vec4<f32>(x, cos_sin_of_phase(sum_of_turns(position, first + TURN_ANGLES - 1u)) * factor);
}

fn sum_of_turns(position: Position, angle: u32) -> u32 {
    var high = 0u;
    var low = 0u;
    for (var s = 0u; s < TURN_STREAMS; s++) {
        let at = TABLE_TURNS + 4u * (angle * TURN_STREAMS + s);
        let inc = vec2<u32>((u32(tables[at]) << 16u) | u32(tables[at + 1u]), (u32(tables[at + 2u]) << 16u) | u32(tables[at + 3u]));
        let p = stream_of(position, s);
        let more = bitcast<u32>(p) * inc.y;
        low += more;
        high += exact_phase(p, inc) + select(0u, 1u, low < more);
    }
    return high;
}
