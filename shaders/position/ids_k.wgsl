// n as the caller gives it.
fn k_position(batch: u32, j: u32) -> i32 { return bitcast<i32>(step[params.step_k_positions + batch * params.kv_capacity + j]); }
