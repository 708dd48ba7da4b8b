// tau = 1 + TEMPERATURE_SCALE ln(1 + floor((m + 1) / TEMPERATURE_FLOOR)) (Llama 4); 1 before position 0.
fn temperature(position: i32) -> f32 {
    if (position < 0) { return 1.0; }
    let step_of = (u32(position) + 1u) / TEMPERATURE_FLOOR;
    return 1.0 + TEMPERATURE_SCALE * ln_f32(f32(1u + step_of));
}
