// cos and sin of a pair's angle, twice.
fn turn_of(position: Position, pair: u32, side: f32) -> vec4<f32> {
    let of_pair = pair_position(position, pair);
    let cs = angle(of_pair, pair) * magnitude(of_pair, pair, side);
    return vec4<f32>(cs, cs);
}
