// q4_0 of ggml: blocks of 32 elements in 9 half words, an f16 d and 32 numbers q of four bits; an element is d (q - 8), exactly (but for a
// subnormal d, which a device may read as 0). The first sixteen q are the low halves of sixteen bytes, the others the high ones.

// The half words of d, of nothing more, and of the bytes of four q.
fn place_q4_0(row: u32, c: u32, dim: u32) -> vec3<u32> {
    let block = ((row >> 5u) + (c >> 3u)) * 9u;
    return vec3<u32>(block, block, block + 1u + 2u * (c & 3u));
}
fn unpack_q4_0(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let q = (vec4<u32>(quants >> (c & 4u)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    return unpack2x16float(head).x * (vec4<f32>(q) - 8.0);
}
