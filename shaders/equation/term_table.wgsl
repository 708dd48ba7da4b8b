// C_h[r(m,n)] from a table over the distance: tables[first + h * (max - min + 1) + clamp(n - m, min, max) - min].
// T5's buckets are expanded into it by the host. A distance beyond 32 bits saturates.
fn term_table(at: ScoreAt, first: u32, lowest: i32, highest: i32) -> f32 {
    let row = clamp(distance(at), lowest, highest) - lowest;
    return tables[first + at.head * u32(highest - lowest + 1) + u32(row)];
}
