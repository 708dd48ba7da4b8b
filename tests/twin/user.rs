//! Functions of a user: each as WGSL, and as Rust for the reference and the twin.

use ropewalk::{Inputs, MaskMod, ScoreAt, ScoreMod, Spec};

/// Where a score stands, as a function asks.
#[derive(Clone, Copy)]
pub struct Place {
    pub batch: u32,
    pub head: u32,
    pub i: u32,
    pub j: u32,
    pub q_index: i32,
    pub q_pos: i32,
    pub k_pos: i32,
}

impl From<&ScoreAt> for Place {
    fn from(at: &ScoreAt) -> Self {
        let ScoreAt { batch, head, i, j, q_index, q_pos, k_pos, .. } = *at;
        Place { batch, head, i, j, q_index, q_pos, k_pos }
    }
}

/// A text, the roundings that [`ScoreMod::new`] takes, and the same in f64 with the words of `user_data`.
type Score = (&'static str, f64, fn(f64, Place, &[u32]) -> f64);
type Mask = (&'static str, fn(Place, &[u32]) -> bool);

pub const SCORES: [Score; 7] = [
    (
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + 0.25 * f32(at.head) - 0.125 * f32(at.j % 5u) + 0.5 * f32(at.batch); }",
        8.0,
        |s, at, _| s + 0.25 * at.head as f64 - 0.125 * (at.j % 5) as f64 + 0.5 * at.batch as f64,
    ),
    ("fn score_mod(s: f32, at: ScoreAt) -> f32 { return 20.0 * tanh_f32(s / 20.0); }", 24.0, |s, _, _| {
        20.0 * (s / 20.0).tanh()
    }),
    (
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + 0.0625 * f32(clamp(distance(at), -64, 64)); }",
        4.0,
        |s, at, _| s + 0.0625 * (at.k_pos as i64 - at.q_pos as i64).clamp(-64, 64) as f64,
    ),
    (
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s * select(0.5, 1.5, at.q_index >= i32(at.j)); }",
        2.0,
        |s, at, _| s * if at.q_index as i64 >= at.j as i64 { 1.5 } else { 0.5 },
    ),
    (
        "const my_low = -2e30;\nfn my_third(x: u32) -> bool { return x % 3u == 0u; }
fn score_mod(s: f32, at: ScoreAt) -> f32 { return select(s, my_low, my_third(at.i + at.j)); }",
        1.0,
        |s, at, _| if (at.i + at.j) % 3 == 0 { -2e30 } else { s },
    ),
    (
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + user_f32((at.i + 3u * at.j) % user_words()); }",
        2.0,
        |s, at, words| s + f32::from_bits(words[(at.i + 3 * at.j) as usize % words.len()]) as f64,
    ),
    (
        "fn score_mod(s: f32, at: ScoreAt) -> f32 {
  var sum = s;
  for (var bit = 0u; bit < 4u; bit++) { sum += 0.25 * f32((u32(at.q_pos ^ at.k_pos) >> bit) & 1u); }
  return sum;
}",
        8.0,
        |s, at, _| s + 0.25 * ((at.q_pos ^ at.k_pos) & 15).count_ones() as f64,
    ),
];

pub const MASKS: [Mask; 4] = [
    ("fn mask_mod(at: ScoreAt) -> bool { return (at.i + 3u * at.j + at.head + at.batch) % 4u != 0u; }", |at, _| {
        (at.i + 3 * at.j + at.head + at.batch) % 4 != 0
    }),
    ("fn mask_mod(at: ScoreAt) -> bool { return at.q_pos >= at.k_pos; }", |at, _| at.q_pos >= at.k_pos),
    ("fn mask_mod(at: ScoreAt) -> bool { return at.q_index - i32(at.j) != 1 && distance(at) != 2; }", |at, _| {
        at.q_index as i64 - at.j as i64 != 1 && at.k_pos as i64 - at.q_pos as i64 != 2
    }),
    (
        "fn mask_mod(at: ScoreAt) -> bool { return (user_u32(at.j % user_words()) >> (at.i % 32u)) % 2u == 0u; }",
        |at, words| (words[at.j as usize % words.len()] >> (at.i % 32)) % 2 == 0,
    ),
];

pub fn reads_data(text: &str) -> bool {
    text.contains("user_")
}

fn find_score(spec: &Spec) -> Option<&'static Score> {
    spec.score_mod.as_ref().map(|text| SCORES.iter().find(|(own, ..)| own == text).expect("a text of ours"))
}
fn find_mask(spec: &Spec) -> Option<&'static Mask> {
    spec.mask_mod.as_ref().map(|text| MASKS.iter().find(|(own, _)| own == text).expect("a text of ours"))
}

/// Sets the closures beside the texts.
pub fn close(spec: &Spec, inputs: &mut Inputs) {
    let words = inputs.user_data.clone();
    inputs.score_mod = find_score(spec).map(|(_, roundings, function)| {
        let words = words.clone();
        ScoreMod::new(*roundings, move |s, at| function(s, at.into(), &words))
    });
    inputs.mask_mod = find_mask(spec).map(|(_, function)| MaskMod::new(move |at| function(at.into(), &words)));
}

pub fn score(spec: &Spec, inputs: &Inputs, s: f64, at: &Place) -> f64 {
    find_score(spec).map_or(s, |(.., function)| function(s, *at, &inputs.user_data))
}
pub fn mask(spec: &Spec, inputs: &Inputs, at: &Place) -> bool {
    find_mask(spec).is_none_or(|(_, function)| function(*at, &inputs.user_data))
}
