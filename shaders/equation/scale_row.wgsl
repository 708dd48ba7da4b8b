// A factor of each query and head.
fn row_scale() -> f32 { return row_number(SCALE_PLANE); }
