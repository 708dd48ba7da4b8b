// int8 with one scale a row and head: a row of dim elements is a word, the f32 d, and dim i8 q; an element is d q, rounded once.

// The half words of d, of nothing more, and of the four q.
fn place_int8(row: u32, c: u32, dim: u32) -> vec3<u32> {
    let start = row / dim * (dim / 2u + 2u);
    return vec3<u32>(start, start, start + 2u + 2u * c);
}
fn unpack_int8(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let q = bitcast<vec4<i32>>(vec4<u32>(quants) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
    return bitcast<f32>(head) * vec4<f32>(q);
}
