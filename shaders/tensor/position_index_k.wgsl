// n = j.
fn k_position(batch: u32, j: u32) -> i32 { return i32(j); }
fn k_positions(batch: u32, j: u32) -> Position { return k_position(batch, j); }
