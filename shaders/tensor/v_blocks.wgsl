// Elements of v in blocks, four at a time, made where they are used. Blocks begin at half words: what they hold is read as 32 bits from a
// half word on. `row` is a row's first element, the first of a block. Of the last block nothing behind its end is read.
fn v_32(half: u32) -> u32 {
    let low = v[half >> 1u];
    if ((half & 1u) == 0u) { return low; }
    return (low >> 16u) | (v[(half >> 1u) + 1u] << 16u);
}
fn v4(row: u32, c: u32) -> vec4<f32> {
    let place = v_place(row, c);
    return v_unpack(v_32(place.x), v_32(place.y), v_32(place.z), c);
}
