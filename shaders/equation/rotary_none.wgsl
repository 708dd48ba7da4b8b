// Nothing rotates.
fn rotate_row(row: ptr<function, Row>, position: Position, side: f32) {}
