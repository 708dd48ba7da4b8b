// i' = i.
fn q_index(batch: u32, i: u32) -> i32 { return i32(i); }
