// q8_0 of ggml: blocks of 32 elements in 17 half words, an f16 d and 32 i8 q; an element is d q, exactly (but for a subnormal d, which a
// device may read as 0). c counts the vec4 of a row, whose blocks follow each other.

// The half words of d, of nothing more, and of the four q.
fn place_q8_0(row: u32, c: u32, dim: u32) -> vec3<u32> {
    let block = ((row >> 5u) + (c >> 3u)) * 17u;
    return vec3<u32>(block, block, block + 1u + 2u * (c & 7u));
}
fn unpack_q8_0(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let q = bitcast<vec4<i32>>(vec4<u32>(quants) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
    return unpack2x16float(head).x * vec4<f32>(q);
}
