// i' = i + kv_len - q_len: the queries are the last tokens.
fn q_index(batch: u32, i: u32) -> i32 { return i32(i) + i32(kv_length(batch)) - i32(q_length(batch)); }
