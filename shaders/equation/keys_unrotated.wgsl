// k holds keys as they were projected: R(n) N k.
fn prepare_key(row: ptr<function, Row>, batch: u32, j: u32) {
    norm_before(row, true);
    rotate_row(row, k_positions(batch, j), -1.0);
    norm_after(row, true);
}
