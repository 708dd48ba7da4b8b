//! Length extensions, from the formulas of the systems.

use ropewalk::RopeScaling;
use std::f64::consts::TAU;

/// Radians per position and what multiplies cos and sin.
pub fn frequencies(scaling: &RopeScaling, theta: f64, dim: u32) -> (Vec<f64>, f64) {
    let d = dim as f64;
    let of = |theta: f64| -> Vec<f64> { (0..dim / 2).map(|p| theta.powf(-2.0 * p as f64 / d)).collect() };
    let plain = of(theta);
    match scaling {
        RopeScaling::Default => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain.iter().map(|f| f / factor).collect(), 1.0),
        RopeScaling::Ntk { factor } => (of(theta * factor.powf(d / (d - 2.0))), 1.0),
        RopeScaling::Dynamic { factor, max_position_embeddings, seq_len } => {
            let trained = *max_position_embeddings as f64;
            let n = seq_len.map_or(trained, |n| (n as f64).max(trained));
            (of(theta * (factor * n / trained - (factor - 1.0)).powf(d / (d - 2.0))), 1.0)
        }
        RopeScaling::Yarn(yarn) => {
            let s = yarn.factor;
            let trained = yarn.original_max_position_embeddings as f64;
            let pair = |turns: f64| d * (trained / (TAU * turns)).ln() / (2.0 * theta.ln());
            let (mut low, mut high) = (pair(yarn.beta_fast.unwrap_or(32.0)), pair(yarn.beta_slow.unwrap_or(1.0)));
            if yarn.truncate.unwrap_or(true) {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(d - 1.0));
            if low == high {
                high += 0.001;
            }
            let blend = |p: usize, f: &f64| {
                let ramp = ((p as f64 - low) / (high - low)).clamp(0.0, 1.0);
                f * (1.0 - ramp) + f / s * ramp
            };
            let f = plain.iter().enumerate().map(|(p, f)| blend(p, f)).collect();
            let scale = |m: f64| if s <= 1.0 { 1.0 } else { 0.1 * m * s.ln() + 1.0 };
            let factor = match (yarn.attention_factor, yarn.mscale, yarn.mscale_all_dim) {
                (Some(factor), ..) => factor,
                (None, Some(one), Some(all)) => scale(one) / scale(all),
                _ => scale(1.0),
            };
            (f, factor)
        }
        RopeScaling::LongRope(long) => {
            let trained = long.original_max_position_embeddings;
            let beyond = long.seq_len.is_some_and(|n| n > trained);
            let divisors = if beyond { &long.long_factor } else { &long.short_factor };
            let s = long.factor.or(long.max_position_embeddings.map(|n| n as f64 / trained as f64)).unwrap_or(1.0);
            let own = if s <= 1.0 { 1.0 } else { (1.0 + s.ln() / (trained as f64).ln()).sqrt() };
            let f = plain.iter().zip(divisors).map(|(f, e)| f / e).collect();
            (f, long.attention_factor.unwrap_or(own))
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let trained = *original_max_position_embeddings as f64;
            let one = |f: &f64| {
                let wave = TAU / f;
                if wave < trained / high_freq_factor {
                    *f
                } else if wave > trained / low_freq_factor {
                    f / factor
                } else {
                    let t = (trained / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - t) * f / factor + t * f
                }
            };
            (plain.iter().map(one).collect(), 1.0)
        }
        RopeScaling::Proportional { partial_rotary_factor, factor } => {
            let turning = (partial_rotary_factor * d / 2.0).floor() as usize;
            let one = |(p, f): (usize, &f64)| if p < turning { f / factor.unwrap_or(1.0) } else { 0.0 };
            (plain.iter().enumerate().map(one).collect(), 1.0)
        }
        #[allow(unreachable_patterns)]
        other => panic!("the twin does not know {other:?}"),
    }
}
