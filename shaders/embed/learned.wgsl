// P[m]: row m of the model's table, in the storage type of x. The host has checked that every m is a row.
fn position4(position: i32, c: u32) -> vec4<f32> {
    return k4(params.k_offset + u32(position) * params.k_token, c);
}
