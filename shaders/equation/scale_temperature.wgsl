// z = ln(1 + floor((m + TEMPERATURE_OFFSET) / TEMPERATURE_FLOOR)) of tau (Llama 4); 0 before position 0.
fn temperature_log(position: i32) -> f32 {
    if (position < 0) { return 0.0; }
    let step_of = (u32(position) + TEMPERATURE_OFFSET) / TEMPERATURE_FLOOR;
    return ln_f32(f32(1u + step_of));
}
