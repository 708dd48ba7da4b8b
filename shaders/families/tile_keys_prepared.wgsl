// Keys are prepared beforehand, R(n) N k. Every tile of rows reads a key again: rotating it there would cost 2 operations and a sine for
// each TILE_Q multiply-adds.
fn tile_k_row(batch: u32, kv_head: u32, j: u32) -> u32 { return prepared_k_row(batch, kv_head, j); }
fn tile_k4(row: u32, c: u32) -> vec4<f32> { return prepared4(row + 4u * KEYS_TOGETHER * c); }
