// What multiplies C, a number of the query and head (WavLM): [batch, num_heads, q_len] in `dense`, behind D and the user's words.
fn gate(at: ScoreAt) -> f32 {
    let row = (tensor_batch(at.batch) * params.num_heads + at.head) * params.q_capacity + q_token(at.batch, at.i);
    return bitcast<f32>(dense[params.gate_offset + row]);
}
