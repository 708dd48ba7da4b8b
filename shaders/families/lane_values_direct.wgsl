// Values are read as they are.
fn lane_v_row(batch: u32, kv_head: u32, j: u32) -> u32 { return v_row(batch, j, kv_head); }
fn lane_v4(row: u32, c: u32) -> vec4<f32> { return v4(row, c); }
