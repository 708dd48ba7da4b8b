// i' - WINDOW_LEFT <= j.
fn left_visible(at: ScoreAt) -> bool { return at.q_index - WINDOW_LEFT <= i32(at.j); }
// The keys that some row from i' = first on sees.
fn left_keys(range: vec2<i32>, first: i32, last: i32) -> vec2<i32> { return vec2<i32>(max(range.x, first - WINDOW_LEFT), range.y); }
// The keys of a range that all rows from i' = first to last see.
fn left_full(range: vec2<i32>, first: i32, last: i32) -> vec2<i32> { return vec2<i32>(max(range.x, last - WINDOW_LEFT), range.y); }
