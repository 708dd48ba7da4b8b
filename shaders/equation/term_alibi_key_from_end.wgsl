// ALiBi on keys counted from the last: slope_h * (n - (kv_len - 1)) (MPT), the difference saturated to 32 bits.
fn term_alibi_key_from_end(at: ScoreAt) -> f32 {
    let last = i32(kv_length(at.batch)) - 1;
    return heads[at.head].x * f32(max(at.k_pos, last - 2147483647) - last);
}
