// Where a score stands: what terms and masks may ask.
struct ScoreAt {
    batch: u32,
    head: u32,      // query head
    i: u32,         // query row
    j: u32,         // key row
    q_index: i32,   // i', where row i stands among the keys
    q_pos: i32,     // m
    k_pos: i32,     // n
}
