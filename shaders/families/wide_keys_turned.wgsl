// Keys turn in registers, R(n) k: a unit is four pairs, `common/units.wgsl`, or from QUADS on two vec4 outside the rotary window.
alias KeyPosition = Position;
fn key_position(batch: u32, j: u32) -> KeyPosition { return k_positions(batch, j); }
fn key_source(unit: u32) -> vec2<u32> {
    if (OUTSIDE == 0u) { return quad_source(unit); }
    return select(quad_source(unit), min(outside_of(unit), vec2<u32>(HEAD_CHUNKS - 1u)), unit >= QUADS);
}
// Their vec4 of a row of q; the one of zeros where there are none.
fn key_place(unit: u32, there: bool) -> vec2<u32> {
    if (EXACT == 1u) { return quad_target(unit); }
    return select(vec2<u32>(HEAD_CHUNKS), select(quad_target(unit), outside_of(unit), unit >= QUADS), there);
}
fn turned_key(x: vec4<f32>, y: vec4<f32>, position: KeyPosition, unit: u32, there: bool) -> mat2x4<f32> {
    let turned = turned_unit(x, y, turns_of(position, unit, -1.0));
    if (EXACT == 1u) { return turned; }
    let copied = vec4<bool>(unit >= QUADS);
    let none = vec4<f32>(0.0);
    return mat2x4<f32>(
        select(none, select(turned[0], x, copied), there),
        select(none, select(turned[1], y, copied), there && key_place(unit, there).y < HEAD_CHUNKS));
}
// Two vec4 outside the window; of an odd number the second one's place is past the row.
fn outside_of(unit: u32) -> vec2<u32> {
    let n = 2u * (unit - QUADS) + vec2<u32>(0u, 1u);
    return select(select(n, n + 2u * QUADS, 4u * n >= vec2<u32>(ROTARY_OFFSET)), vec2<u32>(HEAD_CHUNKS), n >= vec2<u32>(OUTSIDE));
}
