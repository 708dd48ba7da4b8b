// ALiBi on absolute keys: slope_h * n (BLOOM, Falcon).
fn term_alibi_key_position(at: ScoreAt) -> f32 { return heads[at.head].x * f32(at.k_pos); }
