// lse until store_lse, of `coop`, whose `work_half` holds no f32: the four bytes of each, as whole numbers. From BYTE on these are exact in f16, and none of their bits
// are those of a subnormal or a NaN, whatever they are read as.
const BYTE: f32 = 1024.0;

fn kept_lse(row: u32) -> f32 {
    let at = params.partials + 2u * row;
    let low = vec2<u32>(unpack2x16float(bitcast<u32>(work[at])) - vec2<f32>(BYTE));
    let high = vec2<u32>(unpack2x16float(bitcast<u32>(work[at + 1u])) - vec2<f32>(BYTE));
    return bitcast<f32>(low.x | (low.y << 8u) | (high.x << 16u) | (high.y << 24u));
}
// Of row `row` of all tiles.
fn put_lse(row: u32, lse: f32) {
    let bytes = (vec4<u32>(bitcast<u32>(lse)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
    work_half[params.partials / 2u + row] = vec4<f16>(vec4<f32>(bytes) + vec4<f32>(BYTE));
}
