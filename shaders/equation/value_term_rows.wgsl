// o <- o + p E_V[r]: the embedding of the relative position joins the value.
fn add_value_row(o: ptr<function, OutRow>, p: f32, row: u32) {
    for (var c = 0u; c < v_chunks(); c++) { (*o)[c] += p * table4(row, c, V_HEAD_DIM); }
}
