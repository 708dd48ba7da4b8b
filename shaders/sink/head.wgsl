// One more logit of each head in l, [num_heads] in `tables` (GPT-OSS). A row starts with it once, whatever its keys are cut
// into. Like a score, it is at least SCORE_FLOOR.
fn first_state(head: u32) -> State { return State(max(tables[TABLE_SINKS + head], SCORE_FLOOR), 1.0, true, false); }
