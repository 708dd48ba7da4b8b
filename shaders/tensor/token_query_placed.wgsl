// Whose norm asks where a row stands. The rotated tensor is q.
fn token_count(batch: u32) -> u32 { return q_length(batch); }
fn token_position(batch: u32, i: u32) -> Position { return q_positions(batch, i); }
fn token_row(batch: u32, i: u32) -> u32 {
    let token = q_token(batch, i);
    place_norm(false, batch, token, chunk.kv_head);          // a dispatch has one head
    return token;
}
fn token_heads() -> u32 { return params.num_heads; }
const TOKEN_IS_KEY: bool = false;
const TOKEN_SIDE: f32 = 1.0;
