// `work` holds the state to start from: the caller's, or what the last call left.
fn starts_empty() -> bool { return false; }
