// Pairs of any two elements: TABLE_PAIRS holds of each the two that it is read from and the two that it is written to, counted from
// ROTARY_OFFSET; x is the angle of the first, y of the second, the same but where a pair has two:
//   (a, b) -> (a cos x - b sin x, a sin y + b cos y)
fn rotate_row(row: ptr<function, Row>, position: Position, side: f32) {
    var source = *row;
    for (var p = 0u; p < pairs(); p++) {
        let turn = turn_of(position, p, side);
        let at = TABLE_PAIRS + 4u * p;
        let from_a = ROTARY_OFFSET + u32(tables[at]);
        let from_b = ROTARY_OFFSET + u32(tables[at + 1u]);
        let to_a = ROTARY_OFFSET + u32(tables[at + 2u]);
        let to_b = ROTARY_OFFSET + u32(tables[at + 3u]);
        let a = source[from_a >> 2u][from_a & 3u];
        let b = source[from_b >> 2u][from_b & 3u];
        (*row)[to_a >> 2u][to_a & 3u] = a * turn.x - b * turn.y;
        (*row)[to_b >> 2u][to_b & 3u] = a * turn.w + b * turn.z;
    }
}
