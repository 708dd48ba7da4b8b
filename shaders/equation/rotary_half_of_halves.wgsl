// Each half of the rotary window by itself: pairs p < PAIRS / 2 are elements p and p + PAIRS / 2, the others the same
// elements PAIRS further on (Gemma 4's vision tower):
//   (a, b) -> (a cos - b sin, a sin + b cos)
fn rotate_row(row: ptr<function, Row>, position: Position, side: f32) {
    for (var p = 0u; p < pairs(); p++) {
        let of_pair = pair_position(position, p);
        let cs = angle(of_pair, p) * magnitude(of_pair, p, side);
        let i = ROTARY_OFFSET + p + select(0u, PAIRS / 2u, p >= PAIRS / 2u);
        let j = i + PAIRS / 2u;
        let a = (*row)[i >> 2u][i & 3u];
        let b = (*row)[j >> 2u][j & 3u];
        (*row)[i >> 2u][i & 3u] = a * cs.x - b * cs.y;
        (*row)[j >> 2u][j & 3u] = a * cs.y + b * cs.x;
    }
}
