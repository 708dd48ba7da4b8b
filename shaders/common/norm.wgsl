// Norms of a row of any size: the row is scaled by a power of two before its elements are squared, so that no square overflows
// and none that matters is lost. Three passes over the row in registers.

// The power of two that brings the largest element, or `least`, to [1, 2); 2^-126 to 2^126.
fn norm_power(row: ptr<function, Row>, least: f32) -> f32 {
    var most = vec4<f32>(least);
    for (var c = 0u; c < head_chunks(); c++) { most = max(most, abs((*row)[c])); }
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let exponent = i32((bitcast<u32>(largest) >> 23u) & 0xffu);
    return bitcast<f32>(u32(clamp(254 - exponent, 1, 253)) << 23u);
}

// The sum of the squares of the row times `power`: HEAD_CHUNKS additions deep, then two.
fn norm_square(row: ptr<function, Row>, power: f32) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < head_chunks(); c++) {
        let x = (*row)[c] * power;
        sum += x * x;
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// row <- row * power / sqrt(max(square, least)). A row of zeros stays so; one with a NaN or an infinity becomes NaN, by bits.
fn norm_divide(row: ptr<function, Row>, power: f32, square: f32, least: f32) {
    let bits = bitcast<u32>(square);
    let nan = bitcast<f32>(0x7fc00000u | (bits & 0u));
    let inverse = select(inverseSqrt(max(square, max(least, 1e-30))), nan, (bits & 0x7f800000u) == 0x7f800000u);
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] = ((*row)[c] * power) * inverse; }
}
