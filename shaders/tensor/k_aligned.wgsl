// Elements of k, four at a time: HEAD_DIM, strides and offset are multiples of 4. `row` is a row's first element.
fn k4(row: u32, c: u32) -> vec4<f32> { return k_unpack4(k[(row >> 2u) + c]); }
