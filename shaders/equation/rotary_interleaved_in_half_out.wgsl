// Pair p is read at 2p and 2p + 1 of the rotary window and written at p and p + PAIRS (DeepSeek-V3):
//   (a, b) -> (a cos - b sin, a sin + b cos)
fn rotate_row(row: ptr<function, Row>, position: Position, side: f32) {
    var source = *row;
    for (var p = 0u; p < pairs(); p++) {
        let of_pair = pair_position(position, p);
        let cs = angle(of_pair, p) * magnitude(of_pair, p, side);
        let pair = ROTARY_OFFSET + 2u * p;
        let i = ROTARY_OFFSET + p;
        let j = i + PAIRS;
        let a = source[pair >> 2u][pair & 3u];
        let b = source[(pair + 1u) >> 2u][(pair + 1u) & 3u];
        (*row)[i >> 2u][i & 3u] = a * cs.x - b * cs.y;
        (*row)[j >> 2u][j & 3u] = a * cs.y + b * cs.x;
    }
}
