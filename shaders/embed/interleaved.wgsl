// sin, cos, sin, cos, ... (frequency, 1 for cos)
fn wave_of_column(column: u32) -> vec2<u32> { return vec2<u32>(column >> 1u, column & 1u); }
