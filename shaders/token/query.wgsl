// The rotated tensor is q.
fn token_count(batch: u32) -> u32 { return q_length(); }
fn token_position(batch: u32, i: u32) -> i32 { return q_position(batch, i); }
