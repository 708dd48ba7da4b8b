// Products of four rows of queries with a tile of keys that turn on the way: R(n) k, four pairs of a key at a time (`quad/`), one key of a
// lane after the other. A key is read once, so its angles are made here; rows of `work`, rotated beforehand, would cost more than them.
fn lane_scores(q_start: u32, batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) -> mat4x4<f32> {
    let units = min(UNITS, head_chunks());                                 // UNITS, but no constant: the loop stays one
    for (var base = 0u; base < end - first; base += LANES) {
        let t = base + lane;
        let j = min(first + t, end - 1u);
        let k_start = k_row(batch, j, kv_head);
        let position = k_positions(batch, j);
        var s = vec4<f32>(0.0);
        for (var unit = 0u; unit < units; unit++) {
            if (unit < QUADS) {
                let pairs = quad_pairs(unit);
                let both = transpose(mat4x2<f32>(
                    key_turn(position, pairs.x), key_turn(position, pairs.y), key_turn(position, pairs.z), key_turn(position, pairs.w)));
                let here = quad_source(unit);
                let there = quad_target(unit);
                let x = quad_apart(k4(k_start, here.x), k4(k_start, here.y));
                let y = quad_together(x[0] * both[0] - x[1] * both[1], x[0] * both[1] + x[1] * both[0]);
                let q = padded_q(q_start, select(there.x, there.y, (lane & 1u) == 1u));
                s += of_lane_0(q) * y[0];
                s += of_lane_1(q) * y[1];
            } else {
                // outside the rotary window
                let c = select(unit - QUADS, unit + QUADS, 4u * (unit - QUADS) >= ROTARY_OFFSET);
                s += padded_q(q_start, c) * k4(k_start, c);
            }
        }
        s_tile[t] = s;
    }
    return mat4x4<f32>(s_tile[lane], s_tile[LANES + lane], s_tile[2u * LANES + lane], s_tile[3u * LANES + lane]);
}
// cos and sin of a pair, times its magnitude.
fn key_turn(position: Position, pair: u32) -> vec2<f32> {
    let of_pair = pair_position(position, pair);
    return angle(of_pair, pair) * magnitude(of_pair, pair, -1.0);
}
