// Elements 4c.. of a new row as a block of q5_0: d is the largest value / -16, q the whole of x / d + 16.5, at most 31.
fn quantise_q5_0(row: u32, c: u32, dim: u32) {
    let d = quotient(largest_of(c, 8u), 0xc1800000u);       // -16
    let inverse_d = vec4<u32>(inverse_of(d));
    var quants = vec4<u32>(0u);
    var fifths = 0u;
    for (var n = 0u; n < steps(8u); n++) {
        let x = sum4(product4(given4(c + n), inverse_d), vec4<u32>(0x41840000u));       // 16.5
        let q = min(bitcast<vec4<u32>>(signed4(x, whole4(x))) & vec4<u32>(255u), vec4<u32>(31u));
        quants = with_nibbles(quants, n, q);
        fifths = with_fifths(fifths, n, q);
    }
    begin_words(place_q5_0(row, c, dim).x);
    put16(narrow_f16(bitcast<f32>(d)));
    put32(fifths);
    put_nibbles(quants);
}
