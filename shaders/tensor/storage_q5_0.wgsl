// q5_0 of ggml: blocks of 32 elements in 11 half words, an f16 d, a word of the fifth bits of 32 numbers q and their other four bits; an
// element is d (q - 16), exactly (but for a subnormal d, which a device may read as 0). The four bits lie as those of q4_0 do.

// The half words of d, of the fifth bits, and of the bytes of four q.
fn place_q5_0(row: u32, c: u32, dim: u32) -> vec3<u32> {
    let block = ((row >> 5u) + (c >> 3u)) * 11u;
    return vec3<u32>(block, block + 1u, block + 3u + 2u * (c & 3u));
}
fn unpack_q5_0(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let low = (vec4<u32>(quants >> (c & 4u)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    let fifth = ((vec4<u32>(high >> (4u * (c & 7u))) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u);
    return unpack2x16float(head).x * (vec4<f32>(low | fifth) - 16.0);
}
