// As prepare/rows.wgsl, with cos and sin of a token made once for all heads: a unit is four pairs in two vec4 (`prepare/quad_*`), or one vec4
// outside the rotary window. A lane takes one unit of one token and walks over the heads of the part.
//
// grid       units of tokens / UNIT_LANES  x  1  x  batch
// workgroup  UNIT_LANES lanes: neighbours are the same unit of ACROSS tokens, then the next unit of these

@compute @workgroup_size(UNIT_LANES)
fn prepare_q(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let span = tiles_of_units(workgroup.x, workgroup.z);
    let batch = span.batch;
    let index = span.workgroup * UNIT_LANES + lane;
    let i = span.first * TILE_Q / params.group + index / (ACROSS * UNITS) * ACROSS + across(index % ACROSS);
    let unit = index / ACROSS % UNITS;
    if (i >= q_length(batch)) { return; }
    let place = unit_of(unit);
    let turn = turns_of(q_positions(batch, i), unit, 1.0);
    let q_pos = q_position(batch, i);
    for (var h = 0u; h < chunk.kv_heads * params.group + unseen_zero(); h++) {
        let head = chunk.kv_head * params.group + h;
        let packed = i * params.group + h % params.group;
        let tile = packed / TILE_Q;
        if (tile >= span.first && tile < span.first + span.tiles) {
            let start = prepared_q_tile(tile_place(span.x + tile - span.first, head / params.group, workgroup.z)) + packed % TILE_Q;
            let source = q_row(batch, i, head);
            let scale = params.softmax_scale * query_scale(head, q_pos);
            if (unit >= QUADS) {
                put_query4(start, place.z, scale * q4(source, place.x));
            } else {
                let x = quad_apart(q4(source, place.x), q4(source, place.y));
                let y = quad_together(x[0] * turn[0] - x[1] * turn[1], x[0] * turn[1] + x[1] * turn[0]);
                put_query4(start, place.z, scale * y[0]);
                put_query4(start, place.w, scale * y[1]);
            }
        }
    }
}
