// m as the caller gives it.
fn q_position(batch: u32, i: u32) -> i32 {
    return bitcast<i32>(step[params.step_q_positions + tensor_batch(batch) * params.q_capacity + q_token(batch, i)]);
}
fn q_positions(batch: u32, i: u32) -> Position { return q_position(batch, i); }
