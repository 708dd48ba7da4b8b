// Several positions: m-RoPE's time, height and width; row and column; four axes. Each pair turns by one of them.
alias Position = vec4<i32>;
fn pair_position(position: Position, pair: u32) -> i32 {
    let stream = rotary[PAIR_ENTRIES + pair].x & 3u;
    return select(select(position.x, position.y, stream == 1u), select(position.z, position.w, stream == 3u), stream >= 2u);
}
