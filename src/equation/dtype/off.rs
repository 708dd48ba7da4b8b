//! How far a block may be from values that a device makes of ours: of each value x, of which a device has x' within e, |stored - x| is bounded.
//!
//! d is of the device's values, so between what the sizes less e and the sizes plus e give. Its quotient is rounded to f32 and so is 1 / d, and a
//! product by it: 4 roundings of what is at most as large as the largest q, and one of the sum with a half. That is the slack of q beyond half a
//! step. An f16 d is off by its rounding, times the largest q.

/// A value, and how far a device's may be from it.
pub(crate) type Near = [f64; 2];

/// What f16 rounds off a scale; infinite where it does not fit.
fn of_half(d: f64) -> f64 {
    if d <= 65_504.0 { (d * 2f64.powi(-11)).max(2f64.powi(-25)) } else { f64::INFINITY }
}

/// Half a step in units of the step, with the roundings of numbers up to `most`.
fn half_step(most: f64) -> f64 {
    0.5 + most * 2f64.powi(-22) + 2f64.powi(-19)
}

/// One rounding more or less of a quotient.
const MORE: f64 = 1.0 + 1.0 / (1u64 << 22) as f64;
const LESS: f64 = 1.0 - 1.0 / (1u64 << 22) as f64;

/// The largest size: at most, and at least.
fn largest(values: &[Near]) -> [f64; 2] {
    let most = values.iter().fold(0.0, |most: f64, [x, e]| most.max(x.abs() + e));
    [most, values.iter().fold(0.0, |most: f64, [x, e]| most.max(x.abs() - e))]
}

/// Nothing is said of blocks with values that are not finite.
pub(crate) fn finite(values: &[Near], of: impl Fn(&[Near]) -> Vec<f64>) -> Vec<f64> {
    match values.iter().flatten().all(|x| x.is_finite()) {
        true => of(values),
        false => vec![f64::INFINITY; values.len()],
    }
}

/// d q with d the largest value / `levels` and q up to `top` on the other side, where sizes are cut off.
pub(crate) fn scaled(values: &[Near], levels: f64, top: f64) -> Vec<f64> {
    let [most, least] = largest(values);
    let [d, d_least] = [most / levels * MORE, least / levels * LESS];
    let one = |[x, e]: &Near| {
        let cut = x.abs() + e - top * d_least;
        e + (d * half_step(levels)).max(cut) + (levels + 1.0) * of_half(d)
    };
    values.iter().map(one).collect()
}

/// d q + m with m the least value and q up to `top`.
pub(crate) fn shifted(values: &[Near], top: f64) -> Vec<f64> {
    let least = values.iter().fold(f64::INFINITY, |least, [x, e]| least.min(x - e));
    let most = values.iter().fold(f64::NEG_INFINITY, |most, [x, e]| most.max(x + e));
    let d = (most - least) / top * MORE;
    let off = d * half_step(top) + (top + 1.0) * of_half(d) + of_half(least.abs().max(most.abs()));
    values.iter().map(|[_, e]| e + off).collect()
}

/// d q with an f32 d of a row; of subnormal d nothing is kept.
pub(crate) fn rows(values: &[Near]) -> Vec<f64> {
    let [most, least] = largest(values);
    let d = most / 127.0 * MORE;
    let small = if least / 127.0 < 2f64.powi(-126) { 2.0 * most } else { 0.0 };
    values.iter().map(|[_, e]| e + d * half_step(127.0) + small).collect()
}

/// fp8: half a unit of the last place, 2^-10 of subnormals; what is beyond 448 is cut off.
pub(crate) fn e4m3(values: &[Near]) -> Vec<f64> {
    let one = |[x, e]: &Near| {
        let most = x.abs() + e;
        let unit = if most < 2f64.powi(-6) { -10 } else { most.log2().floor() as i32 - 4 };
        e + 2f64.powi(unit).max(most - 448.0)
    };
    values.iter().map(one).collect()
}

/// The `table`'s number next to x / d0, times the d of least squares, where d0 gives the first number to the largest value. With residuals r of the
/// numbers under d0 and weights x^2, no d has a larger sum of squares than S = sum x^2 r^2 has, so that the largest value says
/// |d - d0| <= sqrt(S) / (|first| |largest|). How near a number is changes no faster than x / d0 does.
pub(crate) fn least_squares(values: &[Near], table: &[i8]) -> Vec<f64> {
    let [most, least] = largest(values);
    let first = table.first().map_or(1.0, |n| (*n as f64).abs());
    // below, every d is 0 in f16; above, the cubes of values may be infinite
    if most < 1e-10 {
        return values.iter().map(|[x, e]| x.abs() + e + first * 2f64.powi(-24)).collect();
    }
    if most > 1e10 || least < most / 2.0 {
        return vec![f64::INFINITY; values.len()];
    }
    let [d, d_least] = [most / first * MORE, least / first * LESS];
    // where both signs may be the largest value's, the worse of the two
    let may_be = |sign: f64| values.iter().any(|[x, e]| x * sign >= 0.0 && x.abs() + e >= least);
    let apart = |y: f64| table.iter().fold(f64::INFINITY, |least, n| least.min((y - *n as f64).abs()));
    let residual = |[x, e]: &Near| {
        let moved = e / d_least + first * (d / d_least - 1.0) + 2f64.powi(-16);
        // the table's first number is below 0
        let of = |sign: f64| if may_be(sign) { apart(-sign * x / d) } else { 0.0 };
        d * (of(1.0).max(of(-1.0)) + moved)
    };
    let squares: f64 = values.iter().map(|near| ((near[0].abs() + near[1]) * residual(near)).powi(2)).sum();
    let of_d = squares.sqrt() / (first * least) + d * 2f64.powi(-14);
    let one = |near: &Near| {
        let r = residual(near);
        let number = ((near[0].abs() + near[1] + r) / d_least).min(first);
        near[1] + r + number * of_d + first * of_half(d + of_d)
    };
    values.iter().map(one).collect()
}
