// Queries come after all keys.
fn first_query(batch: u32) -> i32 { return i32(params.kv_capacity); }
