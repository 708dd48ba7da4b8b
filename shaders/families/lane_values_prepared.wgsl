// Values stand in `work`, see prepare/values.wgsl.
fn lane_v_row(batch: u32, kv_head: u32, j: u32) -> u32 { return prepared_v_row(batch, kv_head, j); }
fn lane_v4(row: u32, c: u32) -> vec4<f32> { return prepared4(row + 4u * KEYS_TOGETHER * c); }
