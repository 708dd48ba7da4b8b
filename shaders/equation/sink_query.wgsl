// One more logit of each query and head in l (Inkling 2). A row starts with it once, whatever its keys are cut into.
fn first_state(head: u32) -> State {
    let sink = row_number(SINK_PLANE);
    return State(max(sink, SCORE_FLOOR), 1.0, true, poisoned(sink));
}
