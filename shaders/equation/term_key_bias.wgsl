// c_i - c_j of sums c that grow with the length (forgetting attention): [batch, num_heads, kv_capacity] in `dense` behind the planes of rows,
// as f32 and what is left of it. Differences of the first words are exact, or small beside the result.
fn key_bias_words(at: ScoreAt, j: u32) -> vec2<f32> {
    let first = params.gate_offset + ROW_PLANES * params.batches * params.num_heads * params.q_capacity;
    let word = first + (tensor_batch(at.batch) * params.num_heads + at.head) * params.kv_capacity + k_token(at.batch, j);
    let rest = word + params.batches * params.num_heads * params.kv_capacity;
    return vec2<f32>(bitcast<f32>(dense[word]), bitcast<f32>(dense[rest]));
}
fn term_key_bias(at: ScoreAt) -> f32 {
    let own = clamp(at.q_index, 0, max(i32(kv_length(at.batch)), 1) - 1);
    let c = key_bias_words(at, u32(own)) - key_bias_words(at, at.j);
    return c.x + c.y;
}
