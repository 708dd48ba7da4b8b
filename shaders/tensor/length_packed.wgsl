// Every sequence has the keys between its start and the next one's.
fn kv_length(batch: u32) -> u32 { return step[params.step_cu_k + batch + 1u] - step[params.step_cu_k + batch]; }
