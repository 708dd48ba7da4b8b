// Keys are prepared beforehand, R(n) k, cos and sin made once for all heads: as in kernel/rotate_heads.wgsl, a unit is four pairs, or one
// vec4 outside the rotary window. A lane takes some units of one key, and walks over the heads.
//
// grid       keys / TILE_Q  x  kv heads: that many lanes share the units of a key  x  batch
@compute @workgroup_size(TILE_Q)
fn prepare_k(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let j = workgroup.x * TILE_Q + lane;
    if (j >= kv_length(batch)) { return; }
    let position = k_positions(batch, j);
    for (var unit = workgroup.y; unit < UNITS; unit += chunk.kv_heads) {
        if (unit >= QUADS) {
            let c = select(unit - QUADS, unit + QUADS, 4u * (unit - QUADS) >= ROTARY_OFFSET);
            for (var h = 0u; h < chunk.kv_heads; h++) {
                keep4(lane_k_row(batch, chunk.kv_head + h, j) + 4u * c, k4(k_row(batch, j, chunk.kv_head + h), c));
            }
            continue;
        }
        let pairs = quad_pairs(unit);
        let both = transpose(mat4x2<f32>(
            key_turn(position, pairs.x), key_turn(position, pairs.y), key_turn(position, pairs.z), key_turn(position, pairs.w)));
        let here = quad_source(unit);
        let there = quad_target(unit);
        for (var h = 0u; h < chunk.kv_heads; h++) {
            let source = k_row(batch, j, chunk.kv_head + h);
            let place = lane_k_row(batch, chunk.kv_head + h, j);
            let x = quad_apart(k4(source, here.x), k4(source, here.y));
            let y = quad_together(x[0] * both[0] - x[1] * both[1], x[0] * both[1] + x[1] * both[0]);
            keep4(place + 4u * there.x, y[0]);
            keep4(place + 4u * there.y, y[1]);
        }
    }
}

// cos and sin of a pair, times its magnitude.
fn key_turn(position: Position, pair: u32) -> vec2<f32> {
    let of_pair = pair_position(position, pair);
    return angle(of_pair, pair) * magnitude(of_pair, pair, -1.0);
}
fn keep4(at: u32, x: vec4<f32>) {
    work[at] = x.x;
    work[at + 1u] = x.y;
    work[at + 2u] = x.z;
    work[at + 3u] = x.w;
}

fn lane_k_row(batch: u32, kv_head: u32, j: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.prepared_k + (part * params.kv_capacity + j) * (4u * HEAD_CHUNKS);
}
fn lane_k4(row: u32, c: u32) -> vec4<f32> { return prepared4(row + 4u * c); }
