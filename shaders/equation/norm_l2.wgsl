// x / max(|x|, eps), NORM_LEAST = eps.
fn normalise(row: ptr<function, Row>) {
    let power = norm_power(row, NORM_LEAST);
    let least = NORM_LEAST * power;
    norm_divide(row, power, norm_square(row, power), least * least);
}
