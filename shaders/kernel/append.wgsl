// append: the last rows of the caches. New rows of k and v are read, those of k normed and rotated where the cache holds rotated keys, and
// stored in the caches' type at the rows that the step names.
//
// grid       new tokens / TILE_Q  x  kv heads of k, then of v  x  batch, offset by `chunk`
// workgroup  TILE_Q lanes, one token each
// registers  one row
//
// Each row of a cache has one writer. What stands where is said by `append_count`, `append_query` and `append_key`, and by `k_row` and
// `v_row` as attention has them.

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let n = (chunk.tile + workgroup.x) * TILE_Q + lane;
    if (n >= append_count(batch)) { return; }
    let token = q_token(batch, append_query(batch, n));
    let j = append_key(batch, n);
    let kv_heads = params.num_heads / params.group;
    var head = chunk.kv_head + workgroup.y;
    if (head >= kv_heads) {
        head -= kv_heads;
        let source = params.new_v_offset + tensor_batch(batch) * params.new_v_batch + token * params.new_v_token + head * params.new_v_head;
        let place = v_row(batch, j, head);
        for (var c = 0u; c < v_chunks(); c++) { put_v4(place, c, new_v4(source, c)); }
        return;
    }
    let source = params.new_k_offset + tensor_batch(batch) * params.new_k_batch + token * params.new_k_token + head * params.new_k_head;
    var row: Row;
    for (var c = 0u; c < head_chunks(); c++) { row[c] = new_k4(source, c); }
    prepare_key(&row, batch, j);
    let place = k_row(batch, j, head);
    for (var c = 0u; c < head_chunks(); c++) { put_k4(place, c, row[c]); }
}
