// The weights of q and of k, [heads, HEAD_DIM] each in `tables`.
fn weigh(row: ptr<function, Row>, key: bool) {
    let start = select(TABLE_Q_NORM, TABLE_K_NORM, key) + normed.head * HEAD_DIM;
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] *= table4(start, c, HEAD_DIM); }
}
