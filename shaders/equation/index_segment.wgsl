// 0 for tokens of the same segment, 1 for others.
fn index_segment(at: ScoreAt) -> i32 {
    let q = step[params.step_q_segments + tensor_batch(at.batch) * params.q_capacity + q_token(at.batch, at.i)];
    let k = step[params.step_k_segments + tensor_batch(at.batch) * params.kv_capacity + k_token(at.batch, at.j)];
    return select(1, 0, q == k);
}
