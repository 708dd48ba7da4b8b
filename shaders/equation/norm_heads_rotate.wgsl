// All heads of a token of the tensor that is rotated.
fn normed_heads() -> u32 { return token_heads(); }
fn normed_row4(head: u32, c: u32) -> vec4<f32> {
    let start = params.q_offset + tensor_batch(normed.batch) * params.q_batch + normed.token * params.q_token;
    return q4(start + head * params.q_head, c);
}
