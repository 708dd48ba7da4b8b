// sin | cos: SINES columns of sin, then COSINES of cos. (frequency, 1 for cos)
fn wave_of_column(column: u32) -> vec2<u32> {
    return select(vec2<u32>(column, 0u), vec2<u32>(column - SINES, 1u), column >= SINES);
}
