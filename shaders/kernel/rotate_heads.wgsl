// rotate, where cos and sin are made once for all heads: R(m) x for q or k, in place or into another tensor.
//
// A unit is four pairs of a token, which stand in two vec4 (`prepare/quad_*`); or, where the result goes into another tensor, one vec4
// outside the rotary window, which is copied. A lane takes one unit of one token and walks over HEADS heads of it.
//
// grid       units of tokens / TILE_Q  x  heads / HEADS  x  batch, offset by `chunk`
// workgroup  TILE_Q lanes: neighbours are the same unit of ACROSS tokens, then the next unit of these. With ACROSS = 1, as GPUs
//            have it, neighbouring lanes read neighbouring vec4
// registers  cos and sin of four pairs, two vec4 of one head
//
// A lane reads and writes the same elements, so in place is safe for the pairings that leave pairs where they are.

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let index = (chunk.tile + workgroup.x) * TILE_Q + lane;
    let i = index / (ACROSS * UNITS) * ACROSS + index % ACROSS;
    let unit = index / ACROSS % UNITS;
    if (i >= token_count(batch)) { return; }
    let token = token_row(batch, i);
    let first = (chunk.kv_head + workgroup.y) * HEADS;
    let heads = min(HEADS, token_heads() - first) + unseen_zero();        // no bound that a driver could unroll for
    let source = params.q_offset + tensor_batch(batch) * params.q_batch + token * params.q_token + first * params.q_head;
    let place = params.out_offset + tensor_batch(batch) * params.out_batch + token * params.out_token + first * params.out_head;
    if (unit >= QUADS) {
        let c = select(unit - QUADS, unit + QUADS, 4u * (unit - QUADS) >= ROTARY_OFFSET);
        for (var h = 0u; h < heads; h++) { put4(place + h * params.out_head, c, q4(source + h * params.q_head, c)); }
        return;
    }
    let position = token_position(batch, i);
    let pairs = quad_pairs(unit);
    let both = transpose(mat4x2<f32>(
        turn_of(position, pairs.x), turn_of(position, pairs.y), turn_of(position, pairs.z), turn_of(position, pairs.w)));
    var here = quad_source(unit);
    var there = quad_target(unit);
    for (var h = 0u; h < heads; h++) {
        let x = quad_apart(q4(source, here.x), q4(source, here.y));
        let y = quad_together(x[0] * both[0] - x[1] * both[1], x[0] * both[1] + x[1] * both[0]);
        put4(place, there.x, y[0]);
        put4(place, there.y, y[1]);
        here += params.q_head / 4u;
        there += params.out_head / 4u;
    }
}

// cos and sin of a pair, times its magnitude.
fn turn_of(position: Position, pair: u32) -> vec2<f32> {
    let of_pair = pair_position(position, pair);
    return angle(of_pair, pair) * magnitude(of_pair, pair, TOKEN_SIDE);
}
