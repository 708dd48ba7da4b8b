// m = i': the queries are the last tokens, or with top-left alignment the first.
fn q_position(batch: u32, i: u32) -> i32 { return q_index(batch, i); }
fn q_positions(batch: u32, i: u32) -> Position { return q_position(batch, i); }
