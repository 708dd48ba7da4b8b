//! The reference against the twin.

use super::draw::{Case, Computed};
use super::{SHARE, Sized, attention, embed, linear, rotate, scaling};
use ropewalk::{Inputs, Spec, reference};

/// How many numbers were compared, the worst of them relative to what is allowed, and what was wrong.
#[derive(Debug, Default)]
pub struct Differences {
    pub compared: u64,
    pub worst: f64,
    pub wrong: Vec<String>,
}

impl Differences {
    fn one(&mut self, name: &str, at: usize, found: f64, twin: Sized) {
        self.compared += 1;
        let same = found == twin.value || found.is_nan() && twin.value.is_nan();
        let allowed = SHARE * twin.size;
        let error = (found - twin.value).abs();
        if same {
            return;
        }
        self.worst = self.worst.max(if error.is_nan() { f64::INFINITY } else { error / allowed });
        if (error.is_nan() || allowed.is_nan() || error > allowed) && self.wrong.len() < 5 {
            self.wrong.push(format!("{name}[{at}]: reference {found:e}, twin {:e} +- {allowed:e}", twin.value));
        }
    }
    fn all(&mut self, name: &str, found: &[f64], twin: &[Sized]) {
        if found.len() != twin.len() {
            self.wrong.push(format!("{name}: {} numbers, the twin has {}", found.len(), twin.len()));
        }
        for (at, (found, twin)) in found.iter().zip(twin).enumerate() {
            self.one(name, at, *found, *twin);
        }
    }
}

/// Everything that the reference says of a case, against the twin.
pub fn case(case: &Case) -> ropewalk::Result<Differences> {
    match &case.computed {
        Computed::Attention { spec, inputs, scaling } => {
            let mut found = computed(spec, inputs, spec)?;
            if let (Some((scaling, theta)), Some(rotary)) = (scaling, &spec.rotary) {
                let (own, factor) = scaling::frequencies(scaling, *theta, rotary.rotary_dim);
                let sized: Vec<Sized> = own.iter().map(|f| Sized::new(*f, f.abs())).collect();
                found.all("inv_freq", &rotary.inv_freq(), &sized);
                found.one("attention_factor", 0, rotary.attention_factor, Sized::new(factor, factor.abs()));
            }
            Ok(found)
        }
        Computed::Embed { embed: spec, inputs } => {
            let mut found = Differences::default();
            found.all("embedded", &reference::embed(spec, inputs)?, &embed(spec, inputs));
            Ok(found)
        }
    }
}

/// The reference of a spec against the twin of the same spec or, to see that it is noticed, of another.
pub fn computed(spec: &Spec, inputs: &Inputs, twin_spec: &Spec) -> ropewalk::Result<Differences> {
    let mut found = Differences::default();
    if spec.linear.is_some() {
        let (library, twin) = (reference::linear(spec, inputs)?, linear(twin_spec, inputs));
        found.all("out", &library.out, &twin.out);
        found.all("state", &library.state, &twin.state);
        found.all("normalizer", &library.normalizer, &twin.normalizer);
    } else {
        let (library, twin) = (reference::attention(spec, inputs)?, attention(twin_spec, inputs));
        found.all("lse", &library.lse, &twin.lse);
        found.all("out", &library.out, &twin.out);
        found.all("scores", &reference::scores(spec, inputs)?, &twin.scores);
    }
    if spec.rotary.is_some() || spec.norm.is_some() {
        let (library, twin) = (reference::rotate(spec, inputs)?, rotate(twin_spec, inputs));
        for (name, library, twin) in [("rotated q", &library.0, &twin[0]), ("rotated k", &library.1, &twin[1])] {
            for (at, (library, twin)) in library.iter().zip(twin).enumerate() {
                if let Some(twin) = twin {
                    found.one(name, at, *library, *twin);
                }
            }
        }
    }
    Ok(found)
}
