// Nothing rotates.
fn rotate_row(row: ptr<function, Row>, position: i32) {}
