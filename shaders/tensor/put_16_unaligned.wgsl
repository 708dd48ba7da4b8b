// Rows of the caches in 16 bits, of any size. Two rows may share a word, of which each half has one writer: it clears and sets its own
// bits atomically, so that a row that is there already stays.
fn put_k4(row: u32, c: u32, x: vec4<f32>) {
    for (var e = 0u; e < min(4u, HEAD_DIM - 4u * c); e++) {
        let element = row + 4u * c + e;
        let shift = (element & 1u) * 16u;
        atomicAnd(&k[k_word_of(element)], ~(0xffffu << shift));
        atomicOr(&k[k_word_of(element)], k_narrow(x[e]) << shift);
    }
}
fn put_v4(row: u32, c: u32, x: vec4<f32>) {
    for (var e = 0u; e < min(4u, V_HEAD_DIM - 4u * c); e++) {
        let element = row + 4u * c + e;
        let shift = (element & 1u) * 16u;
        atomicAnd(&v[v_word_of(element)], ~(0xffffu << shift));
        atomicOr(&v[v_word_of(element)], v_narrow(x[e]) << shift);
    }
}
