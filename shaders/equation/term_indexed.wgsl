// C_h[r] from a table [num_heads, rows] over an index map; outside of it 0.
fn term_indexed(at: ScoreAt, first: u32, rows: u32, row: i32) -> f32 {
    if (row < 0) { return 0.0; }
    return tables[first + at.head * rows + u32(row)];
}
