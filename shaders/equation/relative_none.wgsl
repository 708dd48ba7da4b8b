// No embeddings of relative positions enter the score.
struct QueryRows { unused: u32 }
fn load_query_rows(rows: ptr<function, QueryRows>, start: u32, at: ScoreAt, packed: u32) {}
fn relative_terms(rows: ptr<function, QueryRows>, at: ScoreAt) -> f32 { return 0.0; }
