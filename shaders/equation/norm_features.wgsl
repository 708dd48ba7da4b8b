// Linear attention whose rotation stands after the feature map: what rotates is phi(x).
fn norm_before(row: ptr<function, Row>, key: bool) { feature_row(row); }
fn norm_after(row: ptr<function, Row>, key: bool) {}
