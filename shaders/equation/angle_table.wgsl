// The caller's tables, [rows, PAIRS] of cos and of sin; a position is a row.
fn angle(position: i32, pair: u32) -> vec2<f32> {
    let at = u32(position) * PAIRS + pair;
    return vec2<f32>(tables[params.angle_cos + at], tables[params.angle_sin + at]) * bitcast<f32>(rotary[pair].w);
}
