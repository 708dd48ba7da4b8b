// A query turns by its position.
fn load_q(row: ptr<function, Row>, start: u32, at: ScoreAt) { turn_query(row, start, at, q_positions(at.batch, at.i)); }
