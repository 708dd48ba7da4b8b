// ALiBi on keys counted from the last: slope_h * (n - (kv_len - 1)) (MPT).
fn term_alibi_key_from_end(at: ScoreAt) -> f32 { return heads[at.head].x * f32(at.k_pos - (i32(kv_length(at.batch)) - 1)); }
