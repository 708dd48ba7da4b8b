// Elements 4c.. of a new row in f16, beside a tensor in blocks: whole vec4.
fn quantise_f16(row: u32, c: u32, dim: u32) {
    begin_words(row + 4u * c);
    for (var n = c; n < min(c + steps(8u), dim / 4u); n++) {
        let x = pack4_f16(bitcast<vec4<f32>>(given4(n)));
        put32(x.x);
        put32(x.y);
    }
}
