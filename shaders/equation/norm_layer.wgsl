// (x - mean(x)) / sqrt(var(x) + eps), NORM_LEAST = sqrt(eps). What stands past the row's end stays 0.
fn normalise(row: ptr<function, Row>) {
    let power = norm_power(row, NORM_LEAST);
    let least = NORM_LEAST * power;
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < head_chunks(); c++) { sum += (*row)[c] * power; }
    let mean = ((sum.x + sum.y) + (sum.z + sum.w)) * (1.0 / f32(HEAD_DIM));
    for (var c = 0u; c < head_chunks(); c++) {
        let inside = 4u * c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(HEAD_DIM);
        (*row)[c] = select(vec4<f32>(0.0), (*row)[c] * power - mean, inside);
    }
    norm_divide(row, 1.0, norm_square(row, 1.0) * (1.0 / f32(HEAD_DIM)) + least * least, 0.0);
}
