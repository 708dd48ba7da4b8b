// Queries that do not turn, scaled: a lane takes one vec4 of one token and walks over the heads of the part.
//
// grid       vec4 of tokens / UNIT_LANES  x  1  x  batch
// workgroup  UNIT_LANES lanes: neighbours are the same vec4 of ACROSS tokens, then the next vec4 of these

@compute @workgroup_size(UNIT_LANES)
fn prepare_q(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let span = tiles_of_units(workgroup.x, workgroup.z);
    let batch = span.batch;
    let index = span.workgroup * UNIT_LANES + lane;
    let i = span.first * TILE_Q / params.group + index / (ACROSS * HEAD_CHUNKS) * ACROSS + across(index % ACROSS);
    let c = index / ACROSS % HEAD_CHUNKS;
    if (i >= q_length(batch)) { return; }
    let q_pos = q_position(batch, i);
    for (var h = 0u; h < chunk.kv_heads * params.group + unseen_zero(); h++) {
        let head = chunk.kv_head * params.group + h;
        let packed = i * params.group + h % params.group;
        let tile = packed / TILE_Q;
        if (tile >= span.first && tile < span.first + span.tiles) {
            let start = prepared_q_tile(tile_place(span.x + tile - span.first, head / params.group, workgroup.z)) + packed % TILE_Q;
            put_query4(start, c, params.softmax_scale * query_scale(head, q_pos) * q4(q_row(batch, i, head), c));
        }
    }
}
