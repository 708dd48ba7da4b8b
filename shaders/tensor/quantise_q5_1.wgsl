// Elements 4c.. of a new row as a block of q5_1: m is the least value, d the range / 31, q the whole of (x - m) / d + 0.5.
fn quantise_q5_1(row: u32, c: u32, dim: u32) {
    let range = range_of(c);
    let below = vec4<u32>(range.x ^ 0x80000000u);
    let d = quotient(sum4(vec4<u32>(range.y), below).x, 0x41f80000u);       // 31
    let inverse_d = vec4<u32>(inverse_of(d));
    var quants = vec4<u32>(0u);
    var fifths = 0u;
    for (var n = 0u; n < steps(8u); n++) {
        let x = sum4(product4(sum4(given4(c + n), below), inverse_d), vec4<u32>(0x3f000000u));       // 0.5
        let q = select(min(whole4(x), vec4<u32>(255u)), vec4<u32>(0u), x >= vec4<u32>(0x80000000u));
        quants = with_nibbles(quants, n, q);
        fifths = with_fifths(fifths, n, q);
    }
    begin_words(place_q5_1(row, c, dim).x);
    put32(narrow_f16(bitcast<f32>(d)) | (narrow_f16(bitcast<f32>(range.x)) << 16u));
    put32(fifths);
    put_nibbles(quants);
}
