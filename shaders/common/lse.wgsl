// lse of the rows of a tile: `main` leaves it in `work` as its own view of that holds it (`common/lse_*`); store_lse takes every row's to where the caller
// finds it. Two views of the same binding, so two entry points; and no lane writes a part of a vector that another writes too.
//
// grid       that of `main`
// workgroup  TILE_Q lanes, one row each

@compute @workgroup_size(TILE_Q)
fn store_lse(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_at(workgroup.x, workgroup.z);
    let batch = at.x;
    let kv_head = chunk.kv_head + workgroup.y;
    let packed = at.y * TILE_Q + lane;
    if (packed >= q_length(batch) * params.group) { return; }
    let head = kv_head * params.group + packed % params.group;
    let row = (tensor_batch(batch) * params.num_heads + head) * params.q_capacity + q_token(batch, packed / params.group);
    work[params.lse_offset + row] = kept_lse(tile_place(workgroup.x, kv_head, workgroup.z) * TILE_Q + lane);
}
