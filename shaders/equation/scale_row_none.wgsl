// No query has a factor of its own.
fn row_scale() -> f32 { return 1.0; }
