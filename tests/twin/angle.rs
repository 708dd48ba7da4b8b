//! cos and sin of a position times a frequency, reduced by 2 pi in three parts.

use ropewalk::{AngleTable, Rotary};

/// 2 pi to 159 bits.
const TURN: [f64; 3] = [std::f64::consts::TAU, 2.4492935982947064e-16, -5.989539619436679e-33];

/// a b as a sum of two numbers, without error.
fn product(a: f64, b: f64) -> (f64, f64) {
    let high = a * b;
    (high, a.mul_add(b, -high))
}

/// cos and sin of `position * frequency`, the frequency taken as exact, for products up to 2^48.
pub fn cos_sin(position: f64, frequency: f64) -> [f64; 2] {
    let (angle, rest) = product(position, frequency);
    let turns = (angle / TURN[0]).round();
    let (first, first_rest) = product(turns, TURN[0]);
    let (second, second_rest) = product(turns, TURN[1]);
    // angle and first are neighbours, so their difference has no error
    let left = ((angle - first) - first_rest - second) + (rest - second_rest - turns * TURN[2]);
    let (sin, cos) = left.sin_cos();
    [cos, sin]
}

/// What a pair of a row is multiplied by.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    Query,
    Key,
    Value,
}

/// Where a pair is read and where it is written, within a head.
fn places(rotary: &Rotary, pair: usize) -> [usize; 4] {
    use ropewalk::Pairing::*;
    let half = rotary.rotary_dim as usize / 2;
    let quarter = half / 2;
    let at = match rotary.pairing {
        Half => [pair, half + pair, pair, half + pair],
        Interleaved => [2 * pair, 2 * pair + 1, 2 * pair, 2 * pair + 1],
        InterleavedInHalfOut => [2 * pair, 2 * pair + 1, pair, half + pair],
        HalfOfHalves => {
            let first = if pair < quarter { pair } else { half + (pair - quarter) };
            [first, first + quarter, first, first + quarter]
        }
        Listed => {
            let [a, b] = rotary.pairs[pair].map(|e| e as usize);
            [a, b, a, b]
        }
        other => panic!("the twin does not know {other:?}"),
    };
    at.map(|i| rotary.offset as usize + i)
}

/// Radians per position, from theta where the spec gives it; the library's own where they agree, since far positions multiply the
/// last bit.
pub fn frequencies(rotary: &Rotary) -> Vec<f64> {
    let dim = rotary.rotary_dim as f64;
    let given = rotary.inv_freq();
    match &rotary.frequencies {
        ropewalk::Frequencies::Theta(theta) => {
            for (p, f) in given.iter().enumerate() {
                let own = (-2.0 * p as f64 / dim * theta.ln()).exp();
                assert!((own - f).abs() <= 1e-13 * own, "frequency {p} of theta {theta}: {f}, not {own}");
            }
            given
        }
        ropewalk::Frequencies::InvFreq(list) => list.clone(),
        ropewalk::Frequencies::Sums(_) => Vec::new(),
        other => panic!("the twin does not know {other:?}"),
    }
}

/// R of one row: angles, factor, streams, xPos.
pub struct Rotation<'a> {
    rotary: &'a Rotary,
    frequencies: Vec<f64>,
    table: Option<&'a AngleTable>,
}

impl<'a> Rotation<'a> {
    pub fn new(rotary: &'a Rotary, table: Option<&'a AngleTable>) -> Self {
        let frequencies = if table.is_some() { Vec::new() } else { frequencies(rotary) };
        Rotation { rotary, frequencies, table }
    }

    fn pair(&self, pair: usize, position: i64) -> [f64; 2] {
        use ropewalk::Angle::*;
        let pairs = self.rotary.rotary_dim as usize / 2;
        match self.rotary.angle {
            Exact => cos_sin(position as f64, self.frequencies[pair]),
            Float32 => cos_sin((position as f32 * self.frequencies[pair] as f32) as f64, 1.0),
            Table => {
                let table = self.table.expect("a table");
                let at = position as usize * pairs + pair;
                [table.cos[at] as f64, table.sin[at] as f64]
            }
            other => panic!("the twin does not know {other:?}"),
        }
    }

    /// Two angles of a pair whose angles are sums, added up by the rule for sines and cosines of sums.
    fn sums(&self, sums: &ropewalk::Sums, row: &[f64], positions: [i64; 4], head: usize) -> Vec<f64> {
        let mut turned = row.to_vec();
        let (pairs, streams) = (self.rotary.rotary_dim as usize / 2, sums.streams as usize);
        let angles = if sums.two_angles { 2 } else { 1 };
        let head = if sums.heads > 1 { head } else { 0 };
        for pair in 0..pairs {
            let [first, second] = [0, angles - 1].map(|angle| {
                let at = ((head * pairs + pair) * angles + angle) * streams;
                sums.values[at..at + streams].iter().zip(positions).fold([1.0, 0.0], |[c, s], (f, m)| {
                    let [x, y] = cos_sin(m as f64, *f);
                    [c * x - s * y, s * x + c * y]
                })
            });
            let [x, y, to_x, to_y] = places(self.rotary, pair);
            turned[to_x] = self.rotary.attention_factor * (row[x] * first[0] - row[y] * first[1]);
            turned[to_y] = self.rotary.attention_factor * (row[x] * second[1] + row[y] * second[0]);
        }
        turned
    }

    /// R(-m) of a row, by the transposed rotation: its columns are what R makes of unit vectors.
    pub fn back(&self, row: &[f64], positions: [i64; 4], head: usize) -> Vec<f64> {
        let column = |d: usize| {
            let mut unit = vec![0.0; row.len()];
            unit[d] = 1.0;
            self.turn(&unit, positions, Side::Value, head)
        };
        (0..row.len())
            .map(|d| column(d).iter().zip(row).map(|(r, x)| if *r == 0.0 { 0.0 } else { r * x }).sum())
            .collect()
    }

    /// `head` counts kv heads.
    pub fn turn(&self, row: &[f64], positions: [i64; 4], side: Side, head: usize) -> Vec<f64> {
        if let ropewalk::Frequencies::Sums(sums) = &self.rotary.frequencies {
            return self.sums(sums, row, positions, head);
        }
        let mut turned = row.to_vec();
        let dim = self.rotary.rotary_dim as f64;
        for pair in 0..self.rotary.rotary_dim as usize / 2 {
            let stream = if self.rotary.streams.is_empty() { 0 } else { self.rotary.streams[pair] as usize };
            let position = positions[stream];
            let mut length = self.rotary.attention_factor;
            if let (Some(xpos), true) = (&self.rotary.xpos, side != Side::Value) {
                let zeta = (2.0 * pair as f64 / dim + 0.4) / 1.4;
                let sign = if side == Side::Query { 1.0 } else { -1.0 };
                let power = sign * (position - xpos.centre as i64) as f64 / xpos.scale_base;
                length *= (power * zeta.log2()).clamp(-100.0, 100.0).exp2();
            }
            let [cos, sin] = self.pair(pair, position);
            let [x, y, to_x, to_y] = places(self.rotary, pair);
            turned[to_x] = length * (row[x] * cos - row[y] * sin);
            turned[to_y] = length * (row[x] * sin + row[y] * cos);
        }
        turned
    }
}
