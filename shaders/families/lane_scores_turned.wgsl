// Products of four rows of queries with a tile of keys that turn on the way: R(n) k, four pairs of a key at a time (`prepare/quad_*`), four keys of
// a lane, which share the queries. A key is read once, so its angles are made here; rows of `work`, rotated beforehand, would cost more
// than them.
fn lane_scores(q_start: u32, batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) -> mat4x4<f32> {
    let units = min(UNITS, head_chunks());                                 // UNITS, but no constant: the loop stays one
    let j = min(vec4<u32>(first + lane) + vec4<u32>(0u, LANES, 2u * LANES, 3u * LANES), vec4<u32>(end - 1u));
    let k0 = TurningKey(k_row(batch, j.x, kv_head), k_positions(batch, j.x));
    let k1 = TurningKey(k_row(batch, j.y, kv_head), k_positions(batch, j.y));
    let k2 = TurningKey(k_row(batch, j.z, kv_head), k_positions(batch, j.z));
    let k3 = TurningKey(k_row(batch, j.w, kv_head), k_positions(batch, j.w));
    var s = mat4x4<f32>();
    for (var unit = 0u; unit < units; unit++) {
        if (unit < QUADS) {
            let there = quad_target(unit);
            let q = padded_q(q_start, select(there.x, there.y, (lane & 1u) == 1u));
            let a = of_lane_0(q);
            let b = of_lane_1(q);
            let y0 = turned(k0, unit);
            s[0] += a * y0[0];
            s[0] += b * y0[1];
            let y1 = turned(k1, unit);
            s[1] += a * y1[0];
            s[1] += b * y1[1];
            let y2 = turned(k2, unit);
            s[2] += a * y2[0];
            s[2] += b * y2[1];
            let y3 = turned(k3, unit);
            s[3] += a * y3[0];
            s[3] += b * y3[1];
        } else {
            // outside the rotary window
            let c = select(unit - QUADS, unit + QUADS, 4u * (unit - QUADS) >= ROTARY_OFFSET);
            s += padded_q(q_start, c) * mat4x4<f32>(k4(k0.start, c), k4(k1.start, c), k4(k2.start, c), k4(k3.start, c));
        }
    }
    return s;
}

struct TurningKey { start: u32, position: Position }
// A unit of a key, turned: the two vec4 of `quad_target`.
fn turned(key: TurningKey, unit: u32) -> mat2x4<f32> {
    let pairs = quad_pairs(unit);
    let both = transpose(mat4x2<f32>(
        key_turn(key.position, pairs.x), key_turn(key.position, pairs.y), key_turn(key.position, pairs.z), key_turn(key.position, pairs.w)));
    let here = quad_source(unit);
    let x = quad_apart(k4(key.start, here.x), k4(key.start, here.y));
    return quad_together(x[0] * both[0] - x[1] * both[1], x[0] * both[1] + x[1] * both[0]);
}
// cos and sin of a pair, times its magnitude.
fn key_turn(position: Position, pair: u32) -> vec2<f32> {
    let of_pair = pair_position(position, pair);
    return angle(of_pair, pair) * magnitude(of_pair, pair, -1.0);
}
