// Where a score stands for the user's functions: in the whole problem, of which a dispatch's buffers may be a part.
fn user_at(at: ScoreAt) -> ScoreAt {
    return ScoreAt(at.batch + params.first_batch, at.head + params.first_head, at.i, at.j, at.q_index, at.q_pos, at.k_pos);
}
