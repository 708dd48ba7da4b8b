// FIRE: a network of x = ln(1 + c |m - n|) / (ln(1 + c max(m, L)) + eps): b2 + sum of w2 relu(w1 x + b1).
// Of a head: c, L, b2, then w1, b1, w2 of each unit. |m - n| and m go up to 2^31.
fn term_fire(at: ScoreAt, first: u32, rows: u32, eps: f32) -> f32 {
    let start = first + rows * at.head;
    let c = tables[start];
    let scale = max(f32(at.q_pos), tables[start + 1u]);
    let x = ln_f32(1.0 + c * f32(abs(distance(at)))) / (ln_f32(1.0 + c * scale) + eps);
    var sum = tables[start + 2u];
    for (var unit = start + 3u; unit < start + rows; unit += 3u) {
        sum += tables[unit + 2u] * max(tables[unit] * x + tables[unit + 1u], 0.0);
    }
    return sum;
}
