// n - m, saturated to 2^31 - 1 on both sides, so that it has a negative.
fn distance(at: ScoreAt) -> i32 { return distance_between(at.q_pos, at.k_pos); }
fn distance_between(m: i32, n: i32) -> i32 {
    let d = n - m;                                           // wraps
    let overflow = ((n ^ m) & (n ^ d)) < 0;
    return max(select(d, select(2147483647, -2147483647, n < 0), overflow), -2147483647);
}
