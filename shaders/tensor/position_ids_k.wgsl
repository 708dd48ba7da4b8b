// n as the caller gives it.
fn k_position(batch: u32, j: u32) -> i32 {
    return bitcast<i32>(step[params.step_k_positions + tensor_batch(batch) * params.kv_capacity + k_token(batch, j)]);
}
fn k_positions(batch: u32, j: u32) -> Position { return k_position(batch, j); }
