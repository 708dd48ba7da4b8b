// q4_1 of ggml: blocks of 32 elements in 10 half words, an f16 d, an f16 m and 32 numbers q of four bits; an element is d q + m, rounded
// once (a device may read a subnormal d or m as 0). The q lie as those of q4_0 do.

// The half words of d and m, of nothing more, and of the bytes of four q.
fn place_q4_1(row: u32, c: u32, dim: u32) -> vec3<u32> {
    let block = ((row >> 5u) + (c >> 3u)) * 10u;
    return vec3<u32>(block, block, block + 2u + 2u * (c & 3u));
}
fn unpack_q4_1(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let q = (vec4<u32>(quants >> (c & 4u)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    let both = unpack2x16float(head);
    return both.x * vec4<f32>(q) + both.y;
}
