// Every query has the softmax scale.
fn query_scale(head: u32, position: i32) -> f32 { return 1.0; }
