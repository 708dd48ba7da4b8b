// Rows of out, four elements at a time: OUT_DIM, strides and offset are multiples of 4.
fn put4(row: u32, c: u32, x: vec4<f32>) { out[(row >> 2u) + c] = out_pack4(x); }
