// New keys as they come.
fn stage_keys(batch: u32, first: u32, head: u32, lane: u32) {}
fn key_place(batch: u32, n: u32, token: u32, head: u32, of_unit: u32) -> u32 { return new_k_row(batch, n, head + of_unit); }
fn key4(place: u32, c: u32) -> vec4<f32> { return new_k4(place, c); }
