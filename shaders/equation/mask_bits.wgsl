// The caller's boolean mask, one bit a key, broadcast over batch, heads or rows by a stride of 0.
fn bits_visible(at: ScoreAt) -> bool {
    let row = params.step_mask + tensor_batch(at.batch) * params.mask_batch + at.head * params.mask_head
        + q_token(at.batch, at.i) * params.mask_row;
    let j = k_token(at.batch, at.j);
    return ((step[row + (j >> 5u)] >> (j & 31u)) & 1u) == 1u;
}
