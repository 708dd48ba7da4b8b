// Rotation stands before the feature map (Performer): features need none.
fn rotate_input(row: ptr<function, Row>, position: Position, side: f32) { rotate_row(row, position, side); }
fn rotate_tile(at: Times, lane: u32) {}
