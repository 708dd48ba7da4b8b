// Elements 4c.. of a new row as a block of q4_0: d is the largest value / -8, q the whole of x / d + 8.5, at most 15.
fn quantise_q4_0(row: u32, c: u32, dim: u32) {
    let d = quotient(largest_of(c, 8u), 0xc1000000u);       // -8
    let inverse_d = vec4<u32>(inverse_of(d));
    var quants = vec4<u32>(0u);
    for (var n = 0u; n < steps(8u); n++) {
        let x = sum4(product4(given4(c + n), inverse_d), vec4<u32>(0x41080000u));       // 8.5
        quants = with_nibbles(quants, n, min(bitcast<vec4<u32>>(signed4(x, whole4(x))) & vec4<u32>(255u), vec4<u32>(15u)));
    }
    begin_words(place_q4_0(row, c, dim).x);
    put16(narrow_f16(bitcast<f32>(d)));
    put_nibbles(quants);
}
