// embed: x + P[m], the absolute systems; act before the projection to q, k and v.
//
//   out[b,i] = INPUT_SCALE x[b,i] + POSITION_SCALE P[m],  m = step's position of token i
//
// grid       4 TILE_Q columns  x  tokens  x  batch, offset by `chunk`
// workgroup  TILE_Q lanes, four columns each

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let i = chunk.kv_head + workgroup.y;
    let c = (chunk.tile + workgroup.x) * TILE_Q + lane;
    if (i >= min(step[0], params.q_capacity) || c >= HEAD_CHUNKS) { return; }
    let position = bitcast<i32>(step[params.step_q_positions + batch * params.q_capacity + i]);
    let x = q4(params.q_offset + batch * params.q_batch + i * params.q_token, c);
    let out_start = params.out_offset + batch * params.out_batch + i * params.out_token;
    put4(out_start, c, INPUT_SCALE * x + POSITION_SCALE * position4(position, c));
}
