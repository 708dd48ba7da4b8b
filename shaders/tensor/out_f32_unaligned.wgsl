// Rows of out in f32 with any OUT_DIM: elements past the row's end are not written.
fn put4(row: u32, c: u32, x: vec4<f32>) {
    for (var e = 0u; e < min(4u, OUT_DIM - 4u * c); e++) { out[row + 4u * c + e] = x[e]; }
}
