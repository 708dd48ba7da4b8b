// Values of a part, once, before `main` reads them many times: of heads that stand beside each other, rows of one head are far apart. In
// `work` they stand behind their keys, KEYS_TOGETHER of them side by side, in the order that the lanes of a subgroup load them.
//
// grid       vec4 of keys / UNIT_LANES  x  1  x  batch; a lane walks over the heads of the part
// workgroup  UNIT_LANES lanes: neighbours are the same vec4 of ACROSS tokens, then the next vec4 of these

@compute @workgroup_size(UNIT_LANES)
fn prepare_v(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let index = workgroup.x * UNIT_LANES + lane;
    let j = index / (ACROSS * V_CHUNKS) * ACROSS + index % ACROSS;
    let c = index / ACROSS % V_CHUNKS;
    if (j >= kv_length(batch)) { return; }
    for (var h = 0u; h < chunk.kv_heads + unseen_zero(); h++) {
        let kv_head = chunk.kv_head + h;
        work4[prepared_v_row(batch, kv_head, j) / 4u + c * KEYS_TOGETHER] = v4(v_row(batch, j, kv_head), c);
    }
}
