// cap(t) = c tanh(t / c). WGSL's tanh may be off by 1e-5, so this is our own.
fn cap(t: f32) -> f32 { return params.soft_cap * tanh_f32(t * params.inv_soft_cap); }
