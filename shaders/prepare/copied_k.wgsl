// Keys that do not turn, or turned before, in the order in which they are staged. See prepare/copied_q.wgsl.
@compute @workgroup_size(UNIT_LANES)
fn prepare_k(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let index = workgroup.x * UNIT_LANES + lane;
    let j = index / (ACROSS * HEAD_CHUNKS) * ACROSS + across(index % ACROSS);
    let c = index / ACROSS % HEAD_CHUNKS;
    if (j >= kv_length(batch)) { return; }
    for (var h = 0u; h < chunk.kv_heads + unseen_zero(); h++) {
        let kv_head = chunk.kv_head + h;
        put_key4(prepared_k_row(batch, kv_head, j), c, k4(k_row(batch, j, kv_head), c));
    }
}
