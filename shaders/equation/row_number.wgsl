// A number of this lane's row in a plane [batch, num_heads, q_len] of `dense`.
fn row_number(plane: u32) -> f32 {
    let row = (tensor_batch(row_at.batch) * params.num_heads + row_at.head) * params.q_capacity + q_token(row_at.batch, row_at.i);
    return bitcast<f32>(dense[params.gate_offset + plane * params.batches * params.num_heads * params.q_capacity + row]);
}
