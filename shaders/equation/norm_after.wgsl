// The norm stands after the rotation (Llama 4).
fn norm_before(row: ptr<function, Row>, key: bool) {}
fn norm_after(row: ptr<function, Row>, key: bool) {
    normalise(row);
    weigh(row, key);
}
