// Elements of v, four at a time: V_HEAD_DIM, strides and offset are multiples of 4. `row` is a row's first element.
fn v4(row: u32, c: u32) -> vec4<f32> { return v_unpack4(v[(row >> 2u) + c]); }
