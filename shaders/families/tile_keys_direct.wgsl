// Keys are read as they are: nothing norms or rotates them, or a cache holds them rotated.
fn tile_k_row(batch: u32, kv_head: u32, j: u32) -> u32 { return k_row(batch, j, kv_head); }
fn tile_k4(row: u32, c: u32) -> vec4<f32> { return k4(row, c); }
