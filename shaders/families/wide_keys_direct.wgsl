// Keys are taken as they are: a unit is two vec4 half a row apart.
alias KeyPosition = u32;
fn key_position(batch: u32, j: u32) -> KeyPosition { return 0u; }
fn key_source(unit: u32) -> vec2<u32> { return vec2<u32>(unit, min(unit + KEY_UNITS, HEAD_CHUNKS - 1u)); }
// Their vec4 of a row of q; the one of zeros where there are none.
fn key_place(unit: u32, there: bool) -> vec2<u32> { return select(vec2<u32>(HEAD_CHUNKS), vec2<u32>(unit, unit + KEY_UNITS), there); }
fn turned_key(x: vec4<f32>, y: vec4<f32>, position: KeyPosition, unit: u32, there: bool) -> mat2x4<f32> {
    if (EXACT == 1u) { return mat2x4<f32>(x, y); }
    let none = vec4<f32>(0.0);
    return mat2x4<f32>(select(none, x, there), select(none, y, there && unit + KEY_UNITS < HEAD_CHUNKS));
}
