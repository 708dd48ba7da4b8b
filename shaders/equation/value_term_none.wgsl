// Nothing is added to values.
fn add_value_terms(o: ptr<function, OutRow>, p: f32, at: ScoreAt) {}
