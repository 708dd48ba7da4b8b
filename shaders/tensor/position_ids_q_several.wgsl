// m in every stream, as the caller gives it: [streams, batch, capacity]. Terms and masks see the first.
fn q_position(batch: u32, i: u32) -> i32 { return q_position_of(0u, batch, i); }
fn q_positions(batch: u32, i: u32) -> Position {
    let last = POSITION_STREAMS - 1u;                        // a stream that is not there is not read
    return Position(q_position_of(0u, batch, i), q_position_of(1u, batch, i), q_position_of(min(2u, last), batch, i),
        q_position_of(min(3u, last), batch, i));
}
fn q_position_of(stream: u32, batch: u32, i: u32) -> i32 {
    let plane = stream * params.batches + tensor_batch(batch);
    return bitcast<i32>(step[params.step_q_positions + plane * params.q_capacity + q_token(batch, i)]);
}
