// The rotated tensor is also the source: rows are read from `out`, whose words two rows may share (hence atomics).
fn q4(row: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(q_or_0(row, 4u * c), q_or_0(row, 4u * c + 1u), q_or_0(row, 4u * c + 2u), q_or_0(row, 4u * c + 3u));
}
fn q_or_0(row: u32, d: u32) -> f32 {
    if (d >= HEAD_DIM) { return 0.0; }
    return out_unpack1(atomicLoad(&out[out_word_of(row + d)]), row + d);
}
