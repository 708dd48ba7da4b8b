// Every row of queries, and every key, once, before `main` reads them many times. f32 rows in `work`:
//   prepare_q   scale R(m)(N q + u), transposed: tile of TILE_Q rows, element, row      4 HEAD_CHUNKS x TILE_Q words a tile
//   prepare_k   R(n) N k, a row after the other                                         4 HEAD_CHUNKS words a key
// of a part of the grid: chunk.tiles tiles, chunk.kv_heads kv heads.
//
// grid       prepare_q: that of `main`;  prepare_k: keys / TILE_Q  x  kv heads  x  batch
// workgroup  TILE_Q lanes, one row or key each

@compute @workgroup_size(TILE_Q)
fn prepare_q(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_at(workgroup.x, workgroup.z);
    let batch = at.x;
    let kv_head = chunk.kv_head + workgroup.y;
    let packed = at.y * TILE_Q + lane;
    if (packed >= q_length(batch) * params.group) { return; }
    let i = packed / params.group;
    let head = kv_head * params.group + packed % params.group;
    var row: Row;
    load_q(&row, q_row(batch, i, head), ScoreAt(batch, head, i, 0u, 0, q_position(batch, i), 0));
    let start = prepared_q_tile(tile_place(workgroup.x, kv_head, workgroup.z)) + lane;
    for (var c = 0u; c < head_chunks(); c++) {
        put_query4(start, c, row[c]);
    }
}

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
    let start = prepared_k_row(batch, kv_head, j);
    for (var c = 0u; c < head_chunks(); c++) { put_key4(start, c, row[c]); }
}
