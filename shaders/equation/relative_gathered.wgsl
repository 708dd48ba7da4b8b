// Products with every row of a small table are made once, by entry points of their own that run before `main` over the same
// part of the grid, and gathered:
//   relative_queries   work[row of the part][r] <- scale * < q_i + v_h, table[r] >      QUERY_PRODUCTS words a row
//   relative_keys      work[key of the part][r] <- scale * < k_j, table[r] >            KEY_PRODUCTS words a key
// R products a row instead of one for each key; the part is as large as the plan's share of `work` allows.
// grid       relative_queries: that of `main`;  relative_keys: tiles of TILE_Q keys  x  kv heads  x  batch
// workgroup  TILE_Q lanes, one row or key each

@compute @workgroup_size(TILE_Q)
fn relative_queries(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let packed = (chunk.tile + workgroup.x) * TILE_Q + lane;
    if (packed >= q_length(batch) * params.group) { return; }
    let head = kv_head * params.group + packed % params.group;
    var rows: QueryRows;
    load_product_rows(&rows, q_row(batch, packed / params.group, head), head);
    store_query_products(&rows, head, query_products(batch, kv_head, packed));
}

@compute @workgroup_size(TILE_Q)
fn relative_keys(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let j = first_key() + workgroup.x * TILE_Q + lane;
    if (j >= min(end_key(), kv_length(batch))) { return; }
    var rows: QueryRows;
    let start = k_row(batch, j, kv_head);
    for (var c = 0u; c < head_chunks(); c++) { rows.row[0][c] = k4(start, c); }
    store_key_products(&rows, kv_head, key_products(batch, kv_head, j));
}

// Where the products of a row, and of a key, stand in `work`.
fn query_products(batch: u32, kv_head: u32, packed: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.query_products + (part * chunk.tiles * TILE_Q + packed - chunk.tile * TILE_Q) * QUERY_PRODUCTS;
}
fn key_products(batch: u32, kv_head: u32, j: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.key_products + (part * (end_key() - first_key()) + j - first_key()) * KEY_PRODUCTS;
}
