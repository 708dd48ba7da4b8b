// Rows of queries.

// softmax_scale * scale_h * tau * R(position)(N q + u).
fn turn_query(row: ptr<function, Row>, start: u32, at: ScoreAt, position: Position) {
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] = q4(start, c); }
    norm_before(row, false);
    add_content_bias(row, at.head);
    rotate_row(row, position, 1.0);
    norm_after(row, false);
    let scale = params.softmax_scale * query_scale(at.head, at.q_pos);
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] *= scale; }
}

fn q_row(batch: u32, i: u32, head: u32) -> u32 {
    return params.q_offset + tensor_batch(batch) * params.q_batch + q_token(batch, i) * params.q_token + head * params.q_head;
}
