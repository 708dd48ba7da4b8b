// k and v are a pool of rows: the first element of key row j.
fn k_row(batch: u32, j: u32, kv_head: u32) -> u32 { return params.k_offset + pool_row(batch, j) * params.k_token + kv_head * params.k_head; }
fn v_row(batch: u32, j: u32, kv_head: u32) -> u32 { return params.v_offset + pool_row(batch, j) * params.v_token + kv_head * params.v_head; }
