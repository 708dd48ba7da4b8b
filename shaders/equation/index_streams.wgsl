// The distance n - m in a position stream other than the first.
fn stream_distance(at: ScoreAt, stream: u32) -> i32 {
    let plane = stream * params.batches + tensor_batch(at.batch);
    let m = bitcast<i32>(step[params.step_q_positions + plane * params.q_capacity + q_token(at.batch, at.i)]);
    let n = bitcast<i32>(step[params.step_k_positions + plane * params.kv_capacity + k_token(at.batch, at.j)]);
    return distance_between(m, n);
}
