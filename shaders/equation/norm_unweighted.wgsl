// No weights.
fn weigh(row: ptr<function, Row>, key: bool) {}
