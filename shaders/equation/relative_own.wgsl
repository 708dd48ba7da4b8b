// < r_i, table row > with a query r of A's own: [batch, num_heads, q_len, dim] in `dense`, behind the planes of rows and of keys.
fn own_dot(at: ScoreAt, row: u32, dim: u32) -> f32 {
    let first = params.gate_offset + ROW_PLANES * params.batches * params.num_heads * params.q_capacity + KEY_PLANES * params.batches
        * params.num_heads * params.kv_capacity;
    let i = (tensor_batch(at.batch) * params.num_heads + at.head) * params.q_capacity + q_token(at.batch, at.i);
    var sum = 0.0;
    for (var d = 0u; d < dim; d++) { sum += bitcast<f32>(dense[first + i * dim + d]) * tables[row + d]; }
    return sum;
}
