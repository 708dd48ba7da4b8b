// No position term.
fn score_terms(at: ScoreAt) -> f32 { return 0.0; }
