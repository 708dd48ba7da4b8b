// The rotated tensor is k; rows from kv_len on stay as they are.
fn token_count(batch: u32) -> u32 { return kv_length(batch); }
fn token_position(batch: u32, i: u32) -> i32 { return k_position(batch, i); }
