// The rotated tensor is also the source: rows are read from `out`.
fn q4(row: u32, c: u32) -> vec4<f32> { return out_unpack4(out[(row >> 2u) + c]); }
