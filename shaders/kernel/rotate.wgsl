// rotate: R(m) x for q or k, in place or into another tensor.
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
    let start = params.q_offset + batch * params.q_batch + i * params.q_token + head * params.q_head;
    for (var c = 0u; c < head_chunks(); c++) { row[c] = q4(start, c); }
    rotate_row(&row, token_position(batch, i));
    let out_start = params.out_offset + batch * params.out_batch + i * params.out_token + head * params.out_head;
    for (var c = 0u; c < head_chunks(); c++) { put4(out_start, c, row[c]); }
}
