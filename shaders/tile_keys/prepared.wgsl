// Keys are prepared by a dispatch that runs before `main`: work[key of the part] <- R(n) N k, 4 HEAD_CHUNKS words. Every tile of rows
// reads a key again; rotating it there would cost 2 operations and a sine for each TILE_Q multiply-adds.
// grid       tiles of TILE_Q keys  x  kv heads  x  batch
// workgroup  TILE_Q lanes, one key each
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
    let start = tile_k_row(batch, kv_head, j);
    for (var c = 0u; c < head_chunks(); c++) {
        let x = row[c];
        let at = start + 4u * c;
        work[at] = x.x;
        work[at + 1u] = x.y;
        work[at + 2u] = x.z;
        work[at + 3u] = x.w;
    }
}

// By tokens of the tensor: packed sequences of a part share its keys.
fn tile_k_row(batch: u32, kv_head: u32, j: u32) -> u32 {
    let part = (tensor_batch(batch) - tensor_batch(chunk.batch)) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.prepared_k + (part * params.kv_capacity + k_token(batch, j)) * (4u * HEAD_CHUNKS);
}
fn tile_k4(row: u32, c: u32) -> vec4<f32> {
    let at = row + 4u * c;
    return vec4<f32>(work[at], work[at + 1u], work[at + 2u], work[at + 3u]);
}
