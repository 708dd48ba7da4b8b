//! What stands around attention, in f64: linear maps, norms, activations, experts.

use crate::Result;
use crate::tensors::{Tensors, Values};

/// x W^T + b.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`.
    weight: Vec<f64>,
    inputs: usize,
    bias: Option<Vec<f64>>,
}

impl Linear {
    /// A matrix `[out, in]` of this name.
    pub fn new(name: &str, weight: Vec<f64>, inputs: usize, bias: Option<Vec<f64>>) -> Result<Self> {
        let map = Linear { weight, inputs, bias };
        if inputs == 0 || map.weight.is_empty() || map.outputs() * inputs != map.weight.len() {
            return Err(format!("{name}: has {} weights for rows of {inputs}", map.weight.len()).into());
        }
        match &map.bias {
            Some(b) if b.len() != map.outputs() => {
                Err(format!("{name}: has {} biases for {} outputs", b.len(), map.outputs()).into())
            }
            _ => Ok(map),
        }
    }
    /// `name.weight`, and `name.bias` where there is one.
    pub fn read(tensors: &mut Tensors, name: &str) -> Result<Self> {
        let Values { shape, data } = tensors.get(&format!("{name}.weight"))?;
        let bias = tensors.find(&format!("{name}.bias")).map(|b| b.data);
        match shape[..] {
            [_, inputs] => Linear::new(name, data, inputs, bias),
            _ => Err(format!("tensor {name}.weight: has shape {shape:?}; a matrix [out, in] is needed").into()),
        }
    }
    /// Its outputs.
    pub fn outputs(&self) -> usize {
        self.weight.len() / self.inputs.max(1)
    }
    /// Of every row.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mut out = Vec::with_capacity(x.len() / self.inputs * self.outputs());
        for row in x.chunks_exact(self.inputs) {
            for (o, weights) in self.weight.chunks_exact(self.inputs).enumerate() {
                let sum: f64 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
                out.push(sum + self.bias.as_ref().map_or(0.0, |b| b[o]));
            }
        }
        out
    }
    /// Refuses a map of other sizes.
    pub fn expect(&self, name: &str, inputs: usize, outputs: usize) -> Result<()> {
        match [self.outputs(), self.inputs] == [outputs, inputs] {
            true => Ok(()),
            false => Err(format!(
                "{name}: is a map [{}, {}], and the configuration needs [{outputs}, {inputs}]",
                self.outputs(),
                self.inputs
            )
            .into()),
        }
    }
    /// Some outputs of the map of this name as a map of their own.
    pub fn rows(&self, name: &str, rows: impl Iterator<Item = usize> + Clone) -> Result<Linear> {
        if let Some(row) = rows.clone().find(|row| *row >= self.outputs()) {
            return Err(format!("{name}: has {} outputs, and output {row} is needed", self.outputs()).into());
        }
        let weight = rows.clone().flat_map(|o| self.weight[o * self.inputs..][..self.inputs].iter().copied()).collect();
        let bias = self.bias.as_ref().map(|b| rows.map(|o| b[o]).collect());
        Linear::new(name, weight, self.inputs, bias)
    }
}

/// A norm over rows.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Whether the mean is taken away first.
    pub centred: bool,
    /// Added to the mean square.
    pub eps: f64,
    /// Of every element of a row, or of several rows in turn.
    pub weight: Option<Vec<f64>>,
    /// Likewise.
    pub bias: Option<Vec<f64>>,
}

impl Norm {
    /// Of rows of this width.
    pub fn apply(&self, x: &[f64], width: usize) -> Vec<f64> {
        let mut out = x.to_vec();
        for (r, row) in out.chunks_exact_mut(width).enumerate() {
            let mean = if self.centred { row.iter().sum::<f64>() / width as f64 } else { 0.0 };
            let square = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
            let factor = 1.0 / (square + self.eps).sqrt();
            for (i, x) in row.iter_mut().enumerate() {
                let of = |values: &Vec<f64>| values[(r * width + i) % values.len()];
                *x = (*x - mean) * factor * self.weight.as_ref().map_or(1.0, of) + self.bias.as_ref().map_or(0.0, of);
            }
        }
        out
    }
}

/// An activation.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Silu,
    Gelu,
    GeluTanh,
    Relu,
    ReluSquared,
}

impl Act {
    /// By its name in a configuration.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "silu" | "swish" => Act::Silu,
            "gelu" => Act::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Act::GeluTanh,
            "relu" => Act::Relu,
            "relu2" => Act::ReluSquared,
            other => return Err(format!("config hidden_act: is {other}, which this example lacks").into()),
        })
    }
    /// Its value.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Act::Silu => x / (1.0 + (-x).exp()),
            Act::Gelu => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
            Act::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
            Act::Relu => x.max(0.0),
            Act::ReluSquared => x.max(0.0) * x.max(0.0),
        }
    }
}

/// How gate and up become one.
#[derive(Debug, Clone, Copy)]
pub enum Gate {
    /// act(gate) up.
    Plain(Act),
    /// gate sigmoid(alpha gate) (up + 1), both clamped (GPT-OSS).
    Clamped { alpha: f64, limit: f64 },
}

/// A multilayer perceptron.
#[derive(Debug, Clone)]
pub enum Mlp {
    Gated { gate: Linear, up: Linear, down: Linear, form: Gate },
    Two { up: Linear, down: Linear, act: Act },
    Experts(Box<Experts>),
}

impl Mlp {
    /// Refuses one that does not take and give rows of this width.
    pub fn expect(&self, name: &str, width: usize) -> Result<()> {
        match self {
            Mlp::Two { up, down, .. } => {
                up.expect(name, width, up.outputs())?;
                down.expect(name, up.outputs(), width)
            }
            Mlp::Gated { gate, up, down, .. } => {
                gate.expect(name, width, up.outputs())?;
                up.expect(name, width, up.outputs())?;
                down.expect(name, up.outputs(), width)
            }
            Mlp::Experts(experts) => {
                experts.router.expect(name, width)?;
                if let Some(gate) = &experts.shared_gate {
                    gate.expect(name, width, 1)?;
                }
                experts.experts.iter().chain(&experts.shared).try_for_each(|expert| expert.expect(name, width))
            }
        }
    }
    /// Of every row of this width.
    pub fn apply(&self, x: &[f64], width: usize) -> Vec<f64> {
        match self {
            Mlp::Two { up, down, act } => {
                let mut inner = up.apply(x);
                inner.iter_mut().for_each(|x| *x = act.of(*x));
                down.apply(&inner)
            }
            Mlp::Gated { gate, up, down, form } => {
                let mut inner = gate.apply(x);
                for (g, u) in inner.iter_mut().zip(up.apply(x)) {
                    *g = match *form {
                        Gate::Plain(act) => act.of(*g) * u,
                        Gate::Clamped { alpha, limit } => {
                            let (g, u) = (g.min(limit), u.clamp(-limit, limit));
                            g / (1.0 + (-alpha * g).exp()) * (u + 1.0)
                        }
                    };
                }
                down.apply(&inner)
            }
            Mlp::Experts(experts) => x.chunks_exact(width).flat_map(|row| experts.apply(row)).collect(),
        }
    }
}

/// What logits of a router become before the choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scores {
    Softmax,
    Sigmoid,
    /// Softmax over the chosen ones alone.
    SoftmaxOfChosen,
}

/// A router: which experts a token has, with which weights.
#[derive(Debug, Clone)]
pub struct Router {
    pub map: Linear,
    pub scores: Scores,
    /// Added for the choice alone.
    pub bias: Option<Vec<f64>>,
    pub top_k: usize,
    /// Groups, those of them that are kept, and how many of its best experts count for a group.
    pub groups: Option<[usize; 3]>,
    /// Whether the chosen weights are made to sum to 1.
    pub normalized: bool,
    pub factor: f64,
}

impl Router {
    fn expect(&self, name: &str, width: usize) -> Result<()> {
        let count = self.map.outputs();
        self.map.expect(name, width, count)?;
        if self.bias.as_ref().is_some_and(|b| b.len() != count) || self.top_k > count {
            return Err(format!("{name}: has no {count} biases, or chooses {} of {count} experts", self.top_k).into());
        }
        match self.groups {
            Some([n, ..]) if n == 0 || !count.is_multiple_of(n) => {
                Err(format!("config n_group: is {n}, which {count} experts are no multiple of").into())
            }
            _ => Ok(()),
        }
    }
    fn choose(&self, row: &[f64]) -> Vec<(usize, f64)> {
        let mut scores = self.map.apply(row);
        match self.scores {
            Scores::Softmax => softmax(&mut scores),
            Scores::Sigmoid => scores.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Scores::SoftmaxOfChosen => {}
        }
        let mut choice = scores.clone();
        if let Some(bias) = &self.bias {
            choice.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
        if let Some([groups, kept, counted]) = self.groups {
            let size = choice.len() / groups;
            let worth: Vec<f64> =
                choice.chunks_exact(size).map(|group| best(group, counted).iter().map(|i| group[*i]).sum()).collect();
            let kept = best(&worth, kept);
            choice.iter_mut().enumerate().filter(|(i, _)| !kept.contains(&(i / size))).for_each(|(_, x)| *x = f64::MIN);
        }
        let chosen = best(&choice, self.top_k);
        let mut weights: Vec<f64> = chosen.iter().map(|i| scores[*i]).collect();
        if self.scores == Scores::SoftmaxOfChosen {
            softmax(&mut weights);
        }
        let sum: f64 = weights.iter().sum();
        let factor = self.factor / if self.normalized { sum } else { 1.0 };
        chosen.into_iter().zip(weights).map(|(i, w)| (i, w * factor)).collect()
    }
}

/// The places of the n greatest values.
fn best(values: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order.truncate(n);
    order
}

fn softmax(values: &mut [f64]) {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    values.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|x| *x /= sum);
}

/// Experts, some of which a token has, and one that all have.
#[derive(Debug, Clone)]
pub struct Experts {
    pub router: Router,
    pub experts: Vec<Mlp>,
    pub shared: Option<Mlp>,
    /// Its sigmoid multiplies the shared one.
    pub shared_gate: Option<Linear>,
}

impl Experts {
    fn apply(&self, row: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; row.len()];
        let mut add = |values: Vec<f64>, weight: f64| out.iter_mut().zip(values).for_each(|(o, x)| *o += weight * x);
        for (expert, weight) in self.router.choose(row) {
            add(self.experts[expert].apply(row, row.len()), weight);
        }
        if let Some(shared) = &self.shared {
            let gate = self.shared_gate.as_ref().map_or(1.0, |gate| 1.0 / (1.0 + (-gate.apply(row)[0]).exp()));
            add(shared.apply(row, row.len()), gate);
        }
        out
    }
}
