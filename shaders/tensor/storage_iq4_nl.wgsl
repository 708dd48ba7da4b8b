// iq4_nl of ggml: blocks of 32 elements in 9 half words, an f16 d and 32 numbers q of four bits, which lie as those of q4_0 do; an element
// is d times the q-th of sixteen numbers, exactly (but for a subnormal d, which a device may read as 0). The numbers are bytes of four
// constants, so that no array has an index that is known at run time alone.

// The half words of d, of nothing more, and of the bytes of four q.
fn place_iq4_nl(row: u32, c: u32, dim: u32) -> vec3<u32> {
    let block = ((row >> 5u) + (c >> 3u)) * 9u;
    return vec3<u32>(block, block, block + 1u + 2u * (c & 3u));
}
fn unpack_iq4_nl(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {
    let q = (vec4<u32>(quants >> (c & 4u)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    return unpack2x16float(head).x * vec4<f32>(numbers_iq4_nl(q));
}
fn numbers_iq4_nl(q: vec4<u32>) -> vec4<i32> {
    let second = (q & vec4<u32>(4u)) != vec4<u32>(0u);
    let below = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), second);    // -127 -104 -83 -65, -49 -35 -22 -10
    let above = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), second);    // 1 13 25 38, 53 69 89 113
    let four = select(below, above, q >= vec4<u32>(8u));
    return bitcast<vec4<i32>>(four << (vec4<u32>(24u) - 8u * (q & vec4<u32>(3u)))) >> vec4<u32>(24u);
}
