// A row starts with nothing.
fn first_state(head: u32) -> State { return State(SCORE_FLOOR, 0.0, false, false); }
