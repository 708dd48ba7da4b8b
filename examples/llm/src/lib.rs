//! Whole decoder-only language models over the attention of ropewalk: embeddings, projections, norms and experts in f64 on the CPU, keys,
//! values and attention on the GPU. What a model is follows from its `config.json` and the names of its tensors.

pub mod attention;
pub mod layers;
pub mod model;
pub mod plain;
pub mod run;
pub mod tensors;

/// What went wrong, where, and what to do.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of anything here.
pub type Result<T> = std::result::Result<T, Error>;

/// New tokens of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Which sequence, from 0.
    pub sequence: usize,
    /// How many tokens, 1 or more.
    pub tokens: usize,
}

/// Keys and values of every layer, and attention over them.
pub trait Attention {
    /// Makes room for the new tokens of a step, before its first layer.
    fn begin(&mut self, parts: &[Part]) -> Result<()>;
    /// Appends new rows of k and v and attends: `[tokens, heads, dim]` of every part in turn. The rotation and the norms of the layer's spec
    /// are attention's.
    fn attend(&mut self, layer: usize, q: &[f64], k: &[f64], v: &[f64]) -> Result<Vec<f64>>;
    /// Forgets the first n keys of every sequence; the others count from 0 again.
    fn shift(&mut self, n: usize) -> Result<()>;
    /// Keys of a sequence.
    fn len(&self, sequence: usize) -> usize;
}
