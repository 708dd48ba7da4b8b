// Rows of the caches, four elements at a time: HEAD_DIM, V_HEAD_DIM, strides and offsets are multiples of 4.
fn put_k4(row: u32, c: u32, x: vec4<f32>) { k[(row >> 2u) + c] = k_pack4(x); }
fn put_v4(row: u32, c: u32, x: vec4<f32>) { v[(row >> 2u) + c] = v_pack4(x); }
