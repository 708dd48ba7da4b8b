// Elements 4c.. of a new row as they are, beside a tensor in blocks: whole vec4.
fn quantise_f32(row: u32, c: u32, dim: u32) {
    begin_words(2u * (row + 4u * c));
    for (var n = c; n < min(c + steps(8u), dim / 4u); n++) {
        let x = given4(n);
        put32(x.x);
        put32(x.y);
        put32(x.z);
        put32(x.w);
    }
}
