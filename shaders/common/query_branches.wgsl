// A query turns by its position for near keys, by another for far ones. Both turns are rounds of a loop, so that compilers have one.
var<private> q_far: Row;
fn load_q(row: ptr<function, Row>, start: u32, at: ScoreAt) {
    let m = q_positions(at.batch, at.i);
    for (var near = 0u; near < 2u; near++) {
        turn_query(row, start, at, select(branch_query(m), m, near == 1u));
        if (near == 0u) { q_far = *row; }
    }
}
