// P[m]: sin(m f_i) and cos(m f_i) from the exact phase; `dense` holds the increments of f_i in 2^-64 turns, (upper, lower)
// word. PADDING_ROW is a row of zeros; the columns file says which column is what.
fn position4(position: i32, c: u32) -> vec4<f32> {
    if (HAS_PADDING_ROW && position == PADDING_ROW) { return vec4<f32>(0.0); }
    return vec4<f32>(wave(position, 4u * c), wave(position, 4u * c + 1u), wave(position, 4u * c + 2u), wave(position, 4u * c + 3u));
}

fn wave(position: i32, column: u32) -> f32 {
    if (column >= SINES + COSINES) { return 0.0; }            // the odd column of tensor2tensor's form, and padding
    let at = wave_of_column(column);
    let word = params.dense_offset + 2u * at.x;
    let inc = vec2<u32>(dense[word], dense[word + 1u]);
    let cs = cos_sin_of_phase(exact_phase(position, inc));
    return select(cs.y, cs.x, at.y == 1u);
}
