// m as the caller gives it.
fn q_position(batch: u32, i: u32) -> i32 { return bitcast<i32>(step[params.step_q_positions + batch * params.q_capacity + i]); }
