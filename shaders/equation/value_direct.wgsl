// Values are read from their tensor as they are.
fn stage_v(batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) {}
fn value4(start: u32, slot: u32, c: u32) -> vec4<f32> { return v4(start, c); }
