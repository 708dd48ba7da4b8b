// New rows, four elements at a time: strides and offsets are multiples of 4.
fn new_k4(row: u32, c: u32) -> vec4<f32> { return new_k_unpack4(new_k[(row >> 2u) + c]); }
fn new_v4(row: u32, c: u32) -> vec4<f32> { return new_v_unpack4(new_v[(row >> 2u) + c]); }
