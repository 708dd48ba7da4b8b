// phi(x) = x.
fn feature_row(row: ptr<function, Row>) {}
