// A root mean square takes no mean off.
fn mean_of_heads(power: f32, share: f32) -> f32 { return 0.0; }
