// Elements 4c.. of a new row as a block of iq4_nl, by ggml's search of one step: the table's first number stands for the largest value, every
// value takes the table's number next to it, and d is that of least squares, weighted by squares, summed in the order of the elements.
fn quantise_iq4_nl(row: u32, c: u32, dim: u32) {
    let inverse_d = vec4<u32>(inverse_of(quotient(largest_of(c, 8u), 0xc2fe0000u)));       // -127
    var quants = vec4<u32>(0u);
    var sums = vec4<u32>(0u);                                              // of x, of q
    for (var n = 0u; n < steps(8u); n++) {
        let x = given4(c + n);
        let q = nearest_iq4_nl(product4(inverse_d, x));
        quants = with_nibbles(quants, n, q);
        let number = bitcast<vec4<u32>>(vec4<f32>(numbers_iq4_nl(q)));
        let weighted = product4(product4(x, x), number);
        var by_x = product4(weighted, x);
        var by_q = product4(weighted, number);
        for (var e = 0u; e < steps(4u); e++) {
            sums = sum4(sums, vec4<u32>(by_x.x, by_q.x, 0u, 0u));
            by_x = by_x.yzwx;
            by_q = by_q.yzwx;
        }
    }
    var d = 0u;
    if (ordered(sums.y) > 0 && (sums.y & 0x7fffffffu) <= 0x7f800000u) { d = quotient(sums.x, sums.y); }
    begin_words(place_iq4_nl(row, c, dim).x);
    put16(narrow_f16(bitcast<f32>(d)));
    put_nibbles(quants);
}
// The number of the table's value next to x: how many middles between neighbours are not above it.
fn nearest_iq4_nl(x: vec4<u32>) -> vec4<u32> {
    return from_iq4_nl(x, -115.5) + from_iq4_nl(x, -93.5) + from_iq4_nl(x, -74.0) + from_iq4_nl(x, -57.0) + from_iq4_nl(x, -42.0)
        + from_iq4_nl(x, -28.5) + from_iq4_nl(x, -16.0) + from_iq4_nl(x, -4.5) + from_iq4_nl(x, 7.0) + from_iq4_nl(x, 19.0)
        + from_iq4_nl(x, 31.5) + from_iq4_nl(x, 45.5) + from_iq4_nl(x, 61.0) + from_iq4_nl(x, 79.0) + from_iq4_nl(x, 101.0);
}
fn from_iq4_nl(x: vec4<u32>, middle: f32) -> vec4<u32> {
    let order = select(vec4<i32>(size4(x)), -vec4<i32>(size4(x)), x >= vec4<u32>(0x80000000u));
    return select(vec4<u32>(0u), vec4<u32>(1u), order >= vec4<i32>(ordered(bitcast<u32>(middle))));
}
