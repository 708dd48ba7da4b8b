// Whose norm asks where a row stands. The rotated tensor is k; rows from kv_len on stay as they are.
fn token_count(batch: u32) -> u32 { return kv_length(batch); }
fn token_position(batch: u32, i: u32) -> Position { return k_positions(batch, i); }
fn token_row(batch: u32, i: u32) -> u32 {
    let token = k_token(batch, i);
    place_norm(true, batch, token, chunk.kv_head);          // a dispatch has one head
    return token;
}
fn token_heads() -> u32 { return params.num_heads / params.group; }
const TOKEN_IS_KEY: bool = true;
const TOKEN_SIDE: f32 = -1.0;
