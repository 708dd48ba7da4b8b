// D[b,h,i,j]: f32, broadcast by strides of 0. -inf is a mask, found by its bits: WGSL lets a compiler assume that no
// float is infinite.
fn dense_word(at: ScoreAt) -> u32 {
    return dense[params.dense_offset + tensor_batch(at.batch) * params.dense_batch + at.head * params.dense_head
        + q_token(at.batch, at.i) * params.dense_row + k_token(at.batch, at.j) * params.dense_key];
}
fn dense_visible(at: ScoreAt) -> bool { return dense_word(at) != 0xff800000u; }
fn term_dense(at: ScoreAt) -> f32 { return bitcast<f32>(dense_word(at)); }
