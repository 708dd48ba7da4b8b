// A norm, if there is one, asks for its row alone.
fn place_norm(key: bool, batch: u32, token: u32, head: u32) {}
