// (x - mean) / sqrt(var + eps) of all heads of a token, which `normed_row4` reads; NORM_LEAST = sqrt(eps). The mean is that of `mean_*`. Scaled
// by a power of two before it is squared, as in `common/norm`. What stands past a row's end stays 0.
fn normalise(row: ptr<function, Row>) {
    var most = vec4<f32>(NORM_LEAST);
    for (var h = 0u; h < normed_heads(); h++) {
        for (var c = 0u; c < head_chunks(); c++) { most = max(most, abs(normed_row4(h, c))); }
    }
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let power = bitcast<f32>(u32(clamp(254 - i32((bitcast<u32>(largest) >> 23u) & 0xffu), 1, 253)) << 23u);
    let share = 1.0 / f32(HEAD_DIM * normed_heads());
    let mean = mean_of_heads(power, share);
    var squares = vec4<f32>(0.0);
    for (var h = 0u; h < normed_heads(); h++) {
        for (var c = 0u; c < head_chunks(); c++) {
            let x = centred4(normed_row4(h, c), power, mean, c);
            squares += x * x;
        }
    }
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] = centred4((*row)[c], power, mean, c); }
    let least = NORM_LEAST * power;
    norm_divide(row, 1.0, ((squares.x + squares.y) + (squares.z + squares.w)) * share + least * least, 0.0);
}

fn centred4(x: vec4<f32>, power: f32, mean: f32, c: u32) -> vec4<f32> {
    let inside = 4u * c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(HEAD_DIM);
    return select(vec4<f32>(0.0), x * power - mean, inside);
}
