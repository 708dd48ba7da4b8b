// Every sequence has a kv_len of its own.
fn kv_length(batch: u32) -> u32 { return min(step[params.step_kv_lens + batch], shared_kv_length()); }
