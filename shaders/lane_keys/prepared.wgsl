// Keys are prepared beforehand, R(n) N k: rotating them where they are used would cost more than the dispatch.
@compute @workgroup_size(TILE_Q)
fn prepare_k(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let j = workgroup.x * TILE_Q + lane;
    if (j >= kv_length(batch)) { return; }
    var row: Row;
    let k_start = k_row(batch, j, kv_head);
    for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(k_start, c); }
    prepare_key(&row, batch, j);
    let start = lane_k_row(batch, kv_head, j);
    for (var c = 0u; c < head_chunks(); c++) {
        let x = row[c];
        let at = start + 4u * c;
        work[at] = x.x;
        work[at + 1u] = x.y;
        work[at + 2u] = x.z;
        work[at + 3u] = x.w;
    }
}

fn lane_k_row(batch: u32, kv_head: u32, j: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.prepared_k + (part * params.kv_capacity + j) * (4u * HEAD_CHUNKS);
}
fn lane_k4(row: u32, c: u32) -> vec4<f32> { return prepared4(row + 4u * c); }
