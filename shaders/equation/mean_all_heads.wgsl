// The mean of all heads of a token, times a power of two; `share` is one element's.
fn mean_of_heads(power: f32, share: f32) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var h = 0u; h < normed_heads(); h++) {
        for (var c = 0u; c < head_chunks(); c++) { sum += normed_row4(h, c) * power; }
    }
    return ((sum.x + sum.y) + (sum.z + sum.w)) * share;
}
