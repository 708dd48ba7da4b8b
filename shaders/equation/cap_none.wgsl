// No cap.
fn cap(t: f32) -> f32 { return t; }
