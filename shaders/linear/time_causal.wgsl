// Query i stands at i' among the keys.
fn first_query(batch: u32) -> i32 { return q_index(batch, 0u); }
