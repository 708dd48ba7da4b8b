// n - m, saturated to 32 bits.
fn distance(at: ScoreAt) -> i32 {
    let d = at.k_pos - at.q_pos;                             // wraps
    let overflow = ((at.k_pos ^ at.q_pos) & (at.k_pos ^ d)) < 0;
    return select(d, select(2147483647, -2147483647, at.k_pos < 0), overflow);
}
