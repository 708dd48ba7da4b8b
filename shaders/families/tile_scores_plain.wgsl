// The products are the scores.
fn scores_of(t: vec4<f32>, at0: ScoreAt, at1: ScoreAt, at2: ScoreAt, at3: ScoreAt) -> vec4<f32> { return t; }
