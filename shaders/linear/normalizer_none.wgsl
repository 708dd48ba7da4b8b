// o = scale q S.
fn resume_normalizer(unit: u32, fresh: bool, lane: u32) {}
fn normalize_tile(at: Times, lane: u32) {}
fn normalized(o: f32, t: u32) -> f32 { return o; }
fn suspend_normalizer(unit: u32, lane: u32) {}
