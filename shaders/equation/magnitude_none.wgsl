// Rotation keeps lengths.
fn magnitude(position: i32, pair: u32, side: f32) -> f32 { return 1.0; }
