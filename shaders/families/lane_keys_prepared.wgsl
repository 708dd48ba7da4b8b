// Keys are prepared beforehand, R(n) N k: rotating them where they are used would cost more than the dispatch.
fn lane_k_row(batch: u32, kv_head: u32, j: u32) -> u32 { return prepared_k_row(batch, kv_head, j); }
fn lane_k4(row: u32, c: u32) -> vec4<f32> { return prepared4(row + 4u * KEYS_TOGETHER * c); }
