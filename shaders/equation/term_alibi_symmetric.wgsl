// ALiBi, two-sided: -slope_h * |n - m|.
fn term_alibi_symmetric(at: ScoreAt) -> f32 { return -heads[at.head].x * f32(abs(distance(at))); }
