// Elements 4c..4c+3 of a row of `tables`, whose length is a multiple of 4.
fn table4(start: u32, c: u32, dim: u32) -> vec4<f32> {
    let at = start + 4u * c;
    return vec4<f32>(tables[at], tables[at + 1u], tables[at + 2u], tables[at + 3u]);
}
