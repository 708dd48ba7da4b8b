// Elements of k, one at a time: any HEAD_DIM, strides and offset. Elements past the row's end read as 0.
fn k4(row: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(k_or_0(row, 4u * c), k_or_0(row, 4u * c + 1u), k_or_0(row, 4u * c + 2u), k_or_0(row, 4u * c + 3u));
}
fn k_or_0(row: u32, d: u32) -> f32 {
    if (d >= HEAD_DIM) { return 0.0; }
    return k_unpack1(k[k_word_of(row + d)], row + d);
}
