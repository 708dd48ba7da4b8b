// The norm stands before the rotation (Qwen 3, Gemma 3, Swin v2).
fn norm_before(row: ptr<function, Row>, key: bool) {
    normalise(row);
    weigh(row, key);
}
fn norm_after(row: ptr<function, Row>, key: bool) {}
