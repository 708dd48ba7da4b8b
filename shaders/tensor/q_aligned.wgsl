// Elements of q, four at a time: HEAD_DIM, strides and offset are multiples of 4. `row` is a row's first element.
fn q4(row: u32, c: u32) -> vec4<f32> { return q_unpack4(q[(row >> 2u) + c]); }
