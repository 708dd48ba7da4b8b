// One more logit of each head in l, [num_heads] in `tables` (GPT-OSS). A row starts with it once, whatever its keys are cut
// into. Like a score, it is at least SCORE_FLOOR and may poison its rows.
fn first_state(head: u32) -> State {
    let sink = tables[TABLE_SINKS + head];
    return State(max(sink, SCORE_FLOOR), 1.0, true, poisoned(sink));
}
