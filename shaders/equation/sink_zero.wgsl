// One more logit of 0 in l (smooth softmax). A row starts with it once, whatever its keys are cut into.
fn first_state(head: u32) -> State { return State(0.0, 1.0, true, false); }
