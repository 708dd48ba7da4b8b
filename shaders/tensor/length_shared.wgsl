// One kv_len for every sequence.
fn kv_length(batch: u32) -> u32 { return shared_kv_length(); }
