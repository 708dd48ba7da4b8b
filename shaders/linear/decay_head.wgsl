// A factor of the head (retention).
var<private> gamma: f32;
fn stage_decay(at: Times, lane: u32) { gamma = heads[at.head].x; }
fn decayed(s: vec4<f32>, t: u32, c: u32) -> vec4<f32> { return s * gamma; }
