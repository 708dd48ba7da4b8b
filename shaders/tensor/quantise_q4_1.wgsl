// Elements 4c.. of a new row as a block of q4_1: m is the least value, d the range / 15, q the whole of (x - m) / d + 0.5, at most 15.
fn quantise_q4_1(row: u32, c: u32, dim: u32) {
    let range = range_of(c);
    let below = vec4<u32>(range.x ^ 0x80000000u);
    let d = quotient(sum4(vec4<u32>(range.y), below).x, 0x41700000u);       // 15
    let inverse_d = vec4<u32>(inverse_of(d));
    var quants = vec4<u32>(0u);
    for (var n = 0u; n < steps(8u); n++) {
        let x = sum4(product4(sum4(given4(c + n), below), inverse_d), vec4<u32>(0x3f000000u));       // 0.5
        quants = with_nibbles(quants, n, min(bitcast<vec4<u32>>(signed4(x, whole4(x))) & vec4<u32>(255u), vec4<u32>(15u)));
    }
    begin_words(place_q4_1(row, c, dim).x);
    put32(narrow_f16(bitcast<f32>(d)) | (narrow_f16(bitcast<f32>(range.x)) << 16u));
    put_nibbles(quants);
}
