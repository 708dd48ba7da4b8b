// j <= i' + WINDOW_RIGHT. Causal is WINDOW_RIGHT = 0.
fn right_visible(at: ScoreAt) -> bool { return i32(at.j) <= at.q_index + WINDOW_RIGHT; }
// The keys that some row up to i' = last sees.
fn right_keys(range: vec2<i32>, first: i32, last: i32) -> vec2<i32> { return vec2<i32>(range.x, min(range.y, last + WINDOW_RIGHT + 1)); }
// The keys of a range that all rows from i' = first to last see.
fn right_full(range: vec2<i32>, first: i32, last: i32) -> vec2<i32> { return vec2<i32>(range.x, min(range.y, first + WINDOW_RIGHT + 1)); }
