// x / sqrt(mean(x^2) + eps), NORM_LEAST = sqrt(eps).
fn normalise(row: ptr<function, Row>) {
    let power = norm_power(row, NORM_LEAST);
    let least = NORM_LEAST * power;
    norm_divide(row, power, norm_square(row, power) * (1.0 / f32(HEAD_DIM)) + least * least, 0.0);
}
