// The caller's boolean mask, one bit a key, broadcast over batch, heads or rows by a stride of 0.
fn bits_visible(at: ScoreAt) -> bool {
    let row = params.step_mask + at.batch * params.mask_batch + at.head * params.mask_head + at.i * params.mask_row;
    return ((step[row + (at.j >> 5u)] >> (at.j & 31u)) & 1u) == 1u;
}
