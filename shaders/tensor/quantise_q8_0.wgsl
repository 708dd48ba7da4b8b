// Elements 4c.. of a new row as a block of q8_0: d is the largest size / 127, q the nearest integer to x / d, halves away from 0.
fn quantise_q8_0(row: u32, c: u32, dim: u32) {
    let d = quotient(largest_of(c, 8u) & 0x7fffffffu, 0x42fe0000u);       // 127
    let inverse_d = vec4<u32>(inverse_of(d));
    begin_words(place_q8_0(row, c, dim).x);
    put16(narrow_f16(bitcast<f32>(d)));
    for (var n = 0u; n < steps(8u); n++) {
        let x = product4(given4(c + n), inverse_d);
        put32(bytes_of(bitcast<vec4<u32>>(signed4(x, nearest4(x)))));
    }
}
