// Elements 4c..4c+3 of a row of `tables` of any length, 0 past its end.
fn table4(start: u32, c: u32, dim: u32) -> vec4<f32> {
    let d = 4u * c;
    return vec4<f32>(
        table_or_0(start, d, dim), table_or_0(start, d + 1u, dim), table_or_0(start, d + 2u, dim), table_or_0(start, d + 3u, dim));
}
fn table_or_0(start: u32, d: u32, dim: u32) -> f32 {
    if (d >= dim) { return 0.0; }
    return tables[start + d];
}
