// z = ln(max(m + TEMPERATURE_OFFSET, TEMPERATURE_LEAST)) - TEMPERATURE_LOG of tau; the least before position 0.
fn temperature_log(position: i32) -> f32 {
    let there = max(u32(max(position, 0)) + TEMPERATURE_OFFSET, TEMPERATURE_LEAST);
    return ln_f32(f32(select(there, TEMPERATURE_LEAST, position < 0))) - TEMPERATURE_LOG;
}
