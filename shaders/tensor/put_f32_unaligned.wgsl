// Rows of the caches in f32, of any size: elements past a row's end are not written.
fn put_k4(row: u32, c: u32, x: vec4<f32>) {
    for (var e = 0u; e < min(4u, HEAD_DIM - 4u * c); e++) { k[row + 4u * c + e] = x[e]; }
}
fn put_v4(row: u32, c: u32, x: vec4<f32>) {
    for (var e = 0u; e < min(4u, V_HEAD_DIM - 4u * c); e++) { v[row + 4u * c + e] = x[e]; }
}
