// k holds keys as they were projected: R(n) N k, with a norm of the dispatch's kv head or of all.
fn prepare_key(row: ptr<function, Row>, batch: u32, j: u32) {
    place_norm(true, batch, j, chunk.kv_head);
    norm_before(row, true);
    rotate_row(row, k_positions(batch, j), -1.0);
    norm_after(row, true);
}
