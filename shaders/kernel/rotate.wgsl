// rotate: R(m) N x for q or k, in place or into another tensor.
//
// grid       rows / TILE_Q  x  heads  x  batch, offset by `chunk`; a row is one head of one token
// workgroup  TILE_Q lanes, one token each
// registers  one row
//
// Reads and writes of a row stay within one lane, so in place is safe for every pairing.

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let head = chunk.kv_head + workgroup.y;
    let i = (chunk.tile + workgroup.x) * TILE_Q + lane;
    if (i >= token_count(batch)) { return; }
    var row: Row;
    let token = token_row(batch, i);
    let start = params.q_offset + tensor_batch(batch) * params.q_batch + token * params.q_token + head * params.q_head;
    for (var c = 0u; c < head_chunks(); c++) { row[c] = q4(start, c); }
    norm_before(&row, TOKEN_IS_KEY);
    rotate_row(&row, token_position(batch, i), TOKEN_SIDE);
    norm_after(&row, TOKEN_IS_KEY);
    let out_start = params.out_offset + tensor_batch(batch) * params.out_batch + token * params.out_token + head * params.out_head;
    for (var c = 0u; c < head_chunks(); c++) { put4(out_start, c, row[c]); }
}
