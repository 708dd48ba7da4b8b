// Rows of out in 16 bits with any OUT_DIM. Two rows may share a word; each half of it has one writer, which clears and
// sets its own bits atomically, so the word is the same in whatever order they come.
fn put4(row: u32, c: u32, x: vec4<f32>) {
    for (var e = 0u; e < min(4u, OUT_DIM - 4u * c); e++) {
        let element = row + 4u * c + e;
        let shift = (element & 1u) * 16u;
        atomicAnd(&out[out_word_of(element)], ~(0xffffu << shift));
        atomicOr(&out[out_word_of(element)], out_narrow(x[e]) << shift);
    }
}
