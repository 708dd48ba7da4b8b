//! A case: prompts, logits that transformers computed in float64, and the tokens that follow.

use crate::attention::{Device, Options, Storage};
use crate::model::Model;
use crate::plain::Plain;
use crate::tensors::Tensors;
use crate::{Attention, Part, Result};
use ropewalk::Gpu;
use std::path::Path;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub options: Options,
    /// Prompts at once: the case's, and shorter ones with which it begins.
    pub prompts: usize,
    /// Keys that every sequence forgets half-way.
    pub shift: Option<usize>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// The greatest difference of a logit.
    pub worst: f64,
    /// Logits that were compared.
    pub logits: usize,
    /// Tokens chosen as they should be.
    pub right: usize,
    /// Tokens chosen.
    pub tokens: usize,
    /// Tokens that a tolerance leaves open; the case's follow.
    pub open: usize,
}

impl Outcome {
    fn compare(&mut self, got: &[f64], want: &[f64]) {
        for (a, b) in got.iter().zip(want) {
            let off = (a - b).abs();
            // a NaN is as far away as can be
            self.worst = if off <= self.worst {
                self.worst
            } else if off.is_nan() {
                f64::INFINITY
            } else {
                off
            };
        }
        self.logits += want.len();
        if got.len() != want.len() {
            self.worst = f64::INFINITY;
        }
    }
    /// A token, where the right logits choose it by more than a margin.
    fn choose(&mut self, got: &[f64], logits: &[f64], want: u32, margin: f64) {
        let first = logits.get(want as usize).copied().unwrap_or(f64::NEG_INFINITY);
        let others = logits.iter().enumerate().filter(|(n, _)| *n != want as usize);
        let second = others.fold(f64::NEG_INFINITY, |most, (_, x)| most.max(*x));
        if first - second < margin {
            self.open += 1;
            return;
        }
        self.tokens += 1;
        self.right += (best(got) == want) as usize;
    }
    /// Whether every logit is within a tolerance and every token right.
    pub fn passed(&self, tolerance: f64) -> bool {
        self.worst <= tolerance && self.right == self.tokens && self.logits > 0
    }
}

/// How far a logit may be off: 5e-6 in float32, else eight roundings of a number of size 1. In blocks whose largest number is that, they are half
/// steps: of 127 steps, of 16 or 31 of a range that is twice as wide, of 8 or 15, of the widest of iq4_nl's.
pub fn tolerance(storage: Storage) -> f64 {
    8.0 * match storage {
        Storage::F32 => 5e-6 / 8.0,
        Storage::F16 => 2f64.powi(-11),
        Storage::Bf16 => 2f64.powi(-8),
        Storage::Q8_0 | Storage::Int8 => 0.5 / 127.0,
        Storage::Q5_0 => 0.5 / 16.0,
        Storage::Q5_1 => 1.0 / 31.0,
        Storage::Q4_0 => 0.5 / 8.0,
        Storage::Q4_1 => 1.0 / 15.0,
        Storage::Iq4Nl => 14.0 / 127.0,
        Storage::F8E4m3 => 2f64.powi(-4),
    }
}

/// The place of the greatest logit, the first of equals.
fn best(logits: &[f64]) -> u32 {
    let place = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
    place.unwrap_or(0) as u32
}

/// `case.safetensors`.
pub struct Case {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    prompt_logits: Vec<f64>,
    greedy_logits: Vec<f64>,
}

impl Case {
    /// Reads the file of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut file = Tensors::read(&folder.join("case.safetensors"))?;
        let mut ids =
            |name: &str| Ok::<_, crate::Error>(file.get(name)?.data.iter().map(|x| *x as u32).collect::<Vec<_>>());
        let (prompt, greedy) = (ids("prompt_ids")?, ids("greedy_ids")?);
        let (prompt_logits, greedy_logits) = (file.get("prompt_logits")?.data, file.get("greedy_logits")?.data);
        if prompt.is_empty() || greedy.is_empty() {
            return Err("case.safetensors: has no prompt, or no token after it".into());
        }
        Ok(Case { prompt, greedy, prompt_logits, greedy_logits })
    }
    /// Tokens of the longest sequence: the last one chosen is not taken in.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.greedy.len() - 1
    }
    /// What the token at a position should lead to.
    fn logits(&self, position: usize, vocabulary: usize) -> &[f64] {
        let (from, row) = match position.checked_sub(self.prompt.len()) {
            None => (&self.prompt_logits, position),
            Some(n) => (&self.greedy_logits, n + 1),
        };
        from.get(row * vocabulary..(row + 1) * vocabulary).unwrap_or_default()
    }
    fn next(&self, position: usize) -> Option<u32> {
        self.greedy.get((position + 1).checked_sub(self.prompt.len())?).copied()
    }
}

/// A sequence under way.
struct Sequence {
    /// Tokens taken in, those that are forgotten too.
    taken: usize,
    next: u32,
}

/// Runs a case's one prompt and what follows with any attention.
pub fn run_plain(model: &Model, case: &Case, attention: &mut dyn Attention) -> Result<Outcome> {
    let vocabulary = model.vocabulary();
    let mut outcome = Outcome::default();
    let mut ids = case.prompt.clone();
    let mut taken = 0;
    while taken < case.tokens() {
        let got = model.forward(&[Part { sequence: 0, tokens: ids.len() }], &ids, attention)?;
        for (row, position) in got.chunks_exact(vocabulary).zip(taken..) {
            outcome.compare(row, case.logits(position, vocabulary));
            if let Some(expected) = case.next(position) {
                outcome.choose(row, case.logits(position, vocabulary), expected, 0.0);
            }
        }
        taken += ids.len();
        ids = vec![best(got.rchunks_exact(vocabulary).next().unwrap_or_default())];
    }
    Ok(outcome)
}

/// Runs a case on the device.
pub fn run(gpu: &Gpu, model: &Model, case: &Case, settings: &Settings, say: &dyn Fn(String)) -> Result<Outcome> {
    let (prompt, vocabulary) = (case.prompt.len(), model.vocabulary());
    if settings.prompts == 0 || settings.prompts > prompt {
        return Err(format!("--prompts: is {}; give 1 to {prompt}, the tokens of the longest", settings.prompts).into());
    }
    let shorter = (prompt / (2 * settings.prompts)).max(1);
    let lens: Vec<usize> = (0..settings.prompts).map(|n| prompt - n * shorter).collect();
    let capacities: Vec<usize> = lens.iter().map(|_| case.tokens()).collect();
    let most = [lens.iter().sum(), prompt];
    let mut device = Device::new(gpu, model, settings.options, &capacities, most)?;
    device.labels().iter().for_each(|label| say(label.clone()));
    let mut plain = match settings.shift {
        Some(_) => Some(Plain::new(&model.config, &model.parameters, lens.len(), case.tokens())?),
        None => None,
    };
    // what blocks may put in the other order says nothing, and the case's tokens go on
    let storage = settings.options.storage;
    let in_blocks = storage.dtype().in_blocks();
    let margin = if in_blocks { 2.0 * tolerance(storage) } else { 0.0 };
    let mut outcome = Outcome::default();
    let mut sequences: Vec<Sequence> = lens.iter().map(|_| Sequence { taken: 0, next: 0 }).collect();
    let mut shifted = false;
    // prompts of a tensor each come one after the other, those of a pool at once
    let steps: Vec<Vec<Part>> = {
        let all: Vec<Part> =
            lens.iter().enumerate().map(|(sequence, tokens)| Part { sequence, tokens: *tokens }).collect();
        match settings.options.place {
            crate::attention::Place::Contiguous => all.iter().map(|part| vec![*part]).collect(),
            _ => vec![all],
        }
    };
    let mut steps = std::collections::VecDeque::from(steps);
    let half = prompt + case.greedy.len() / 2;
    loop {
        let parts = match steps.pop_front() {
            Some(parts) => parts,
            None => {
                let going = (0..sequences.len()).filter(|s| sequences[*s].taken < case.tokens());
                going.map(|sequence| Part { sequence, tokens: 1 }).collect()
            }
        };
        if parts.is_empty() {
            break;
        }
        if let Some(n) = settings.shift.filter(|_| !shifted && sequences[0].taken >= half) {
            if let Some(short) = (0..sequences.len()).map(|s| device.len(s)).find(|len| *len <= n) {
                return Err(format!("--shift: is {n}, and a sequence has {short} keys; give less").into());
            }
            device.shift(n)?;
            if let Some(plain) = &mut plain {
                plain.shift(n)?;
            }
            shifted = true;
            say(format!("{} sequences forget {n} keys each", sequences.len()));
        }
        let mut ids = Vec::new();
        for part in &parts {
            let from = sequences[part.sequence].taken;
            ids.extend(
                (from..from + part.tokens)
                    .map(|at| case.prompt.get(at).copied().unwrap_or(sequences[part.sequence].next)),
            );
        }
        let got = model.forward(&parts, &ids, &mut device)?;
        let f64s = match &mut plain {
            Some(plain) => Some(model.forward(&parts, &ids, plain)?),
            None => None,
        };
        let mut row = 0;
        for part in &parts {
            let sequence = &mut sequences[part.sequence];
            for _ in 0..part.tokens {
                let span = row * vocabulary..(row + 1) * vocabulary;
                let got = got.get(span.clone()).unwrap_or_default();
                let plain = f64s.as_ref().and_then(|all| all.get(span)).filter(|_| shifted);
                let logits = plain.unwrap_or(case.logits(sequence.taken, vocabulary));
                outcome.compare(got, logits);
                let expected =
                    plain.map_or(case.next(sequence.taken), |all| case.next(sequence.taken).map(|_| best(all)));
                if let Some(expected) = expected {
                    outcome.choose(got, logits, expected, margin);
                }
                // what f64 chose goes on there, so that both have the same tokens
                sequence.next = if shifted || in_blocks { expected.unwrap_or(0) } else { best(got) };
                sequence.taken += 1;
                row += 1;
            }
        }
    }
    if settings.shift.is_some() && !shifted {
        return Err("--shift: the case ends before it is half-way".into());
    }
    Ok(outcome)
}
