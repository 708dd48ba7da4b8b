// Where the row stands that is normed next: a norm asks for its head's weights, or for the token's other heads. `head` counts kv heads of keys.
struct Normed { key: bool, batch: u32, token: u32, head: u32 }
var<private> normed: Normed;
fn place_norm(key: bool, batch: u32, token: u32, head: u32) { normed = Normed(key, batch, token, head); }
