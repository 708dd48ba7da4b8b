// A query turns by its position for near keys, by another for far ones.
var<private> q_far: Row;
fn load_q(row: ptr<function, Row>, start: u32, at: ScoreAt) {
    let m = q_positions(at.batch, at.i);
    turn_query(row, start, at, m);
    var far: Row;
    turn_query(&far, start, at, branch_query(m));
    q_far = far;
}
