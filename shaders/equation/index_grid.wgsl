// The row of dy = m_0 - n_0 and dx = m_1 - n_1 in a window, row by row. Tokens outside the grid (a negative row) have three
// rows behind it: from such a token, to such a token, between two.
fn index_grid(at: ScoreAt, height: i32, width: i32) -> i32 {
    let dy = clamp(-distance(at), 1 - height, height - 1);
    let dx = clamp(-stream_distance(at, 1u), 1 - width, width - 1);
    return (dy + height - 1) * (2 * width - 1) + dx + width - 1;
}
fn index_grid_class(at: ScoreAt, height: i32, width: i32) -> i32 {
    let plane = (2 * height - 1) * (2 * width - 1);
    if (at.q_pos < 0) { return select(plane, plane + 2, at.k_pos < 0); }
    if (at.k_pos < 0) { return plane + 1; }
    return index_grid(at, height, width);
}
