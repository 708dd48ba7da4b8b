// R_o: a row of out turns back by its query's position, R(-m) o (DeepSeek-V4). TABLE_PAIRS holds the elements of the pairs.
fn turn_output(o: ptr<function, OutRow>) {
    let position = q_positions(row_at.batch, row_at.i);
    for (var p = 0u; p < pairs(); p++) {
        let cs = turn_of(position, p, 0.0).xy;
        let at = TABLE_PAIRS + 4u * p;
        let i = ROTARY_OFFSET + u32(tables[at + 2u]);
        let j = ROTARY_OFFSET + u32(tables[at + 3u]);
        let a = (*o)[i >> 2u][i & 3u];
        let b = (*o)[j >> 2u][j & 3u];
        (*o)[i >> 2u][i & 3u] = a * cs.x + b * cs.y;
        (*o)[j >> 2u][j & 3u] = b * cs.x - a * cs.y;
    }
}
