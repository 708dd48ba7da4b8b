// Elements 4c.. of a new row of int8: d, of the whole row, is the largest size / 127, q the nearest integer to x / d, halves away from 0.
fn quantise_int8(row: u32, c: u32, dim: u32) {
    let d = quotient(largest_of(0u, dim / 4u) & 0x7fffffffu, 0x42fe0000u);       // 127
    let inverse_d = vec4<u32>(inverse_of(d));
    let place = place_int8(row, c, dim);
    if (c == 0u) {
        begin_words(place.x);
        put32(d);
    }
    begin_words(place.z);
    for (var n = c; n < min(c + steps(8u), dim / 4u); n++) {
        let x = product4(given4(n), inverse_d);
        put32(bytes_of(bitcast<vec4<u32>>(signed4(x, nearest4(x)))));
    }
}
