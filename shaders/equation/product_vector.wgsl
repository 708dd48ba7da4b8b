// A product of A or B that was made beforehand, from `work` as vectors.
fn product(at: u32) -> f32 { return work4[at / 4u][at % 4u]; }
