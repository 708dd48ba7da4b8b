// Units of a row: four pairs in two vec4 (`prepare/quad_*`), or from QUADS on one vec4 outside the rotary window.

// Where a unit's two vec4 come from, and where they go.
fn unit_of(unit: u32) -> vec4<u32> {
    let copied = unit - QUADS;
    let c = select(copied, copied + 2u * QUADS, 4u * copied >= ROTARY_OFFSET);
    return select(vec4<u32>(quad_source(unit), quad_target(unit)), vec4<u32>(c), unit >= QUADS);
}
// cos and sin of a unit's four pairs, times their magnitudes.
fn turns_of(position: Position, unit: u32, side: f32) -> mat2x4<f32> {
    let pairs = quad_pairs(min(unit, QUADS - 1u));
    return transpose(mat4x2<f32>(
        turn_of(position, pairs.x, side), turn_of(position, pairs.y, side), turn_of(position, pairs.z, side), turn_of(position, pairs.w, side)));
}
fn turn_of(position: Position, pair: u32, side: f32) -> vec2<f32> {
    let of_pair = pair_position(position, pair);
    return angle(of_pair, pair) * magnitude(of_pair, pair, side);
}
// A unit's two vec4, turned; each where it came from in the row's own order (`unit_of(unit).zw`).
fn turned_unit(x: vec4<f32>, y: vec4<f32>, turn: mat2x4<f32>) -> mat2x4<f32> {
    let pairs = quad_apart(x, y);
    return quad_together(pairs[0] * turn[0] - pairs[1] * turn[1], pairs[0] * turn[1] + pairs[1] * turn[0]);
}
