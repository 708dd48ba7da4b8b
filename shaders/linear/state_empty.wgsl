// The first dispatch starts from nothing.
fn starts_empty() -> bool { return true; }
