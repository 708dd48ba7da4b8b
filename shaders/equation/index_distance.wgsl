// The row of a distance d in a table over lowest..highest: clipped, or -1 outside.
fn index_clipped(d: i32, lowest: i32, highest: i32) -> i32 { return clamp(d, lowest, highest) - lowest; }
fn index_inside(d: i32, lowest: i32, highest: i32) -> i32 { return select(-1, d - lowest, d >= lowest && d <= highest); }
