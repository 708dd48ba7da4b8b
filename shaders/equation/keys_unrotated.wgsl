// k holds keys as they were projected: R(n) N k.
fn prepare_key(row: ptr<function, Row>, batch: u32, j: u32) { turn_key(row, k_positions(batch, j)); }
fn turn_key(row: ptr<function, Row>, position: Position) {
    norm_before(row, true);
    rotate_row(row, position, -1.0);
    norm_after(row, true);
}
