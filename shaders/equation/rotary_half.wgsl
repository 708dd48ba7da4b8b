// Pair p is elements p and p + PAIRS of the rotary window:
//   (a, b) -> (a cos - b sin, a sin + b cos)
fn rotate_row(row: ptr<function, Row>, position: Position, side: f32) {
    for (var p = 0u; p < pairs(); p++) {
        let of_pair = pair_position(position, p);
        let cs = angle(of_pair, p) * magnitude(of_pair, p, side);
        let i = ROTARY_OFFSET + p;
        let j = ROTARY_OFFSET + p + PAIRS;
        let a = (*row)[i >> 2u][i & 3u];
        let b = (*row)[j >> 2u][j & 3u];
        (*row)[i >> 2u][i & 3u] = a * cs.x - b * cs.y;
        (*row)[j >> 2u][j & 3u] = a * cs.y + b * cs.x;
    }
}
