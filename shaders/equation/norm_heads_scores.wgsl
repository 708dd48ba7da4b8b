// All heads of a token of q, or of k.
fn normed_heads() -> u32 { return select(params.num_heads, params.num_heads / params.group, normed.key); }
fn normed_row4(head: u32, c: u32) -> vec4<f32> {
    if (normed.key) { return k4(k_row(normed.batch, normed.token, head), c); }
    return q4(q_row(normed.batch, normed.token, head), c);
}
