// ALiBi, relative: slope_h * (n - m).
fn term_alibi_relative(at: ScoreAt) -> f32 { return heads[at.head].x * f32(distance(at)); }
