// n - m, saturated to 2^31 - 1 on both sides, so that it has a negative.
fn distance(at: ScoreAt) -> i32 {
    let d = at.k_pos - at.q_pos;                             // wraps
    let overflow = ((at.k_pos ^ at.q_pos) & (at.k_pos ^ d)) < 0;
    return max(select(d, select(2147483647, -2147483647, at.k_pos < 0), overflow), -2147483647);
}
