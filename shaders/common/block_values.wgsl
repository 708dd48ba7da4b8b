// What a block's numbers are made of: its values as the bits of f32, eight fours from c on. NaN are passed over.

// The one that is largest in size, the first of several; 0 of nothing.
fn largest_of(first: u32, fours: u32) -> u32 {
    var most = 0u;
    for (var c = 0u; c < steps(fours); c++) {
        let x = given4(first + c);
        most = larger_of(larger_of(larger_of(larger_of(most, x.x), x.y), x.z), x.w);
    }
    return most;
}
fn larger_of(most: u32, x: u32) -> u32 {
    let size = x & 0x7fffffffu;
    return select(most, x, size > (most & 0x7fffffffu) && size <= 0x7f800000u);
}

// The least and the most, the first of equal ones; infinities the wrong way round of nothing.
fn range_of(first: u32) -> vec2<u32> {
    var range = vec2<u32>(0x7f800000u, 0xff800000u);
    for (var c = 0u; c < steps(8u); c++) {
        let x = given4(first + c);
        range = wider_range(wider_range(wider_range(wider_range(range, x.x), x.y), x.z), x.w);
    }
    return range;
}
fn wider_range(range: vec2<u32>, x: u32) -> vec2<u32> {
    let number = (x & 0x7fffffffu) <= 0x7f800000u;
    let least = select(range.x, x, number && ordered(x) < ordered(range.x));
    return vec2<u32>(least, select(range.y, x, number && ordered(x) > ordered(range.y)));
}
// Integers in the order of the numbers; 0 and -0 are one.
fn ordered(x: u32) -> i32 {
    let size = i32(x & 0x7fffffffu);
    return select(size, -size, x >= 0x80000000u);
}

// Numbers of four bits and their fifth bits, as they stand in a block: those of elements 4c..4c+3 joined to the others.
fn with_nibbles(quants: vec4<u32>, c: u32, q: vec4<u32>) -> vec4<u32> {
    let low = q & vec4<u32>(15u);
    let word = (low.x | (low.y << 8u) | (low.z << 16u) | (low.w << 24u)) << (c & 4u);
    return quants | select(vec4<u32>(0u), vec4<u32>(word), vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(c & 3u));
}
fn with_fifths(fifths: u32, c: u32, q: vec4<u32>) -> u32 {
    let bit = (q >> vec4<u32>(4u)) & vec4<u32>(1u);
    return fifths | ((bit.x | (bit.y << 1u) | (bit.z << 2u) | (bit.w << 3u)) << (4u * c));
}
fn put_nibbles(quants: vec4<u32>) {
    put32(quants.x);
    put32(quants.y);
    put32(quants.z);
    put32(quants.w);
}
// Four bytes of numbers.
fn bytes_of(q: vec4<u32>) -> u32 {
    let byte = q & vec4<u32>(255u);
    return byte.x | (byte.y << 8u) | (byte.z << 16u) | (byte.w << 24u);
}
