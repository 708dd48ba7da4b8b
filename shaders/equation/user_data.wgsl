// The user's own words, behind D; 0 past their end.
fn user_words() -> u32 { return params.user_words; }
fn user_u32(i: u32) -> u32 {
    if (i >= params.user_words) { return 0u; }
    return dense[params.dense_offset + params.user_offset + i];
}
fn user_f32(i: u32) -> f32 { return bitcast<f32>(user_u32(i)); }
