// n in every stream, as the caller gives it: [streams, batch, capacity]. Terms and masks see the first.
fn k_position(batch: u32, j: u32) -> i32 { return k_position_of(0u, batch, j); }
fn k_positions(batch: u32, j: u32) -> Position {
    let last = POSITION_STREAMS - 1u;                        // a stream that is not there is not read
    return Position(k_position_of(0u, batch, j), k_position_of(1u, batch, j), k_position_of(min(2u, last), batch, j),
        k_position_of(min(3u, last), batch, j));
}
fn k_position_of(stream: u32, batch: u32, j: u32) -> i32 {
    let plane = stream * params.batches + tensor_batch(batch);
    return bitcast<i32>(step[params.step_k_positions + plane * params.kv_capacity + k_token(batch, j)]);
}
