// Rows of queries that read numbers of their own by where they stand, or are turned back in the end.
var<private> row_at: ScoreAt;

// softmax_scale * scale_h * tau * R(m)(N q + u).
fn load_q(row: ptr<function, Row>, start: u32, at: ScoreAt) {
    row_at = at;
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] = q4(start, c); }
    place_norm(false, at.batch, at.i, at.head);
    norm_before(row, false);
    add_content_bias(row, at.head);
    rotate_row(row, q_positions(at.batch, at.i), 1.0);
    norm_after(row, false);
    let scale = params.softmax_scale * query_scale(at.head, at.q_pos) * row_scale();
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] *= scale; }
}

fn q_row(batch: u32, i: u32, head: u32) -> u32 {
    return params.q_offset + tensor_batch(batch) * params.q_batch + q_token(batch, i) * params.q_token + head * params.q_head;
}
