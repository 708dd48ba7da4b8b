// Elements of v, one at a time: any V_HEAD_DIM, strides and offset. Elements past the row's end read as 0.
fn v4(row: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(v_or_0(row, 4u * c), v_or_0(row, 4u * c + 1u), v_or_0(row, 4u * c + 2u), v_or_0(row, 4u * c + 3u));
}
fn v_or_0(row: u32, d: u32) -> f32 {
    if (d >= V_HEAD_DIM) { return 0.0; }
    return v_unpack1(v[v_word_of(row + d)], row + d);
}
