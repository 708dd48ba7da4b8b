// Rows of queries that turn by one position for near keys and by another for far ones.
var<private> q_far: Row;

// softmax_scale * scale_h * tau * R(m)(N q + u), and in q_far the same by `branch_query`.
fn load_q(row: ptr<function, Row>, start: u32, at: ScoreAt) {
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] = q4(start, c); }
    norm_before(row, false);
    add_content_bias(row, at.head);
    var far = *row;
    let m = q_positions(at.batch, at.i);
    rotate_row(row, m, 1.0);
    norm_after(row, false);
    rotate_row(&far, branch_query(m), 1.0);
    norm_after(&far, false);
    let scale = params.softmax_scale * query_scale(at.head, at.q_pos);
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] *= scale; }
    for (var c = 0u; c < head_chunks(); c++) { far[c] *= scale; }
    q_far = far;
}

fn q_row(batch: u32, i: u32, head: u32) -> u32 {
    return params.q_offset + tensor_batch(batch) * params.q_batch + q_token(batch, i) * params.q_token + head * params.q_head;
}
