// A product of A or B that was made beforehand, from `work` as words.
fn product(at: u32) -> f32 { return work[at]; }
