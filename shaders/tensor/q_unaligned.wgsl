// Elements of q, one at a time: any HEAD_DIM, strides and offset. Elements past the row's end read as 0.
fn q4(row: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(q_or_0(row, 4u * c), q_or_0(row, 4u * c + 1u), q_or_0(row, 4u * c + 2u), q_or_0(row, 4u * c + 3u));
}
fn q_or_0(row: u32, d: u32) -> f32 {
    if (d >= HEAD_DIM) { return 0.0; }
    return q_unpack1(q[q_word_of(row + d)], row + d);
}
