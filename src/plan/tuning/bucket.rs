//! Classes of calls: a winner that was measured for one call is taken for every call of its class that it suits.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::inputs::shape::Shape;
use crate::plan::kernel::Kernel;
use crate::plan::tuning::tuning::Tuning;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Upper ends of the classes of head_dim; larger ones are a class of their own, here and below.
pub(crate) const DIMS: &[u32] = &[32, 64, 96, 128, 192, 256];

/// Of kv heads times sequences: workgroups that the rows of one head do not fill a device with.
pub(crate) const HEADS: &[u32] = &[4, 16, 64, 256];

/// Of rows: query tokens times the query heads that share a kv head.
pub(crate) const ROWS: &[u32] = &[8, 64, 256, 1024, 4096, 16_384];

/// Of keys of a sequence.
pub(crate) const KEYS: &[u32] = &[256, 1024, 4096, 16_384, 65_536];

/// A class of calls: the kernel, the storage, classes of head_dim, heads, rows and keys, and what terms a score has. Its text is its
/// name in files.
///
/// ```
/// use ropewalk::{Bucket, Kernel, Mask, Shape, Spec};
/// let mut spec = Spec::new(32, 8, 128);
/// spec.mask = Mask::causal();
/// let decode = Bucket::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 1, 3000))?;
/// assert_eq!(decode.to_string(), "attention f32 d128 heads16 rows8 keys4096 causal");
/// assert_eq!(decode, Bucket::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 2, 4096))?);
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub(crate) kernel: Kernel,
    pub(crate) dtype: Dtype,
    /// Upper ends of classes, `u32::MAX` for the last.
    pub(crate) head_dim: u32,
    pub(crate) heads: u32,
    pub(crate) rows: u32,
    pub(crate) keys: u32,
    /// A bit for each of [`TERMS`].
    pub(crate) terms: u32,
}

/// What changes a kernel's cost: the names, in the order of their bits.
const TERMS: [&str; 16] = [
    "unaligned",
    "causal",
    "window",
    "mask",
    "packed",
    "rotary",
    "rotated-keys",
    "values",
    "norm",
    "relative",
    "bias",
    "dense",
    "cap",
    "user",
    "linear",
    "stored-apart",
];

/// What the classes are of: the wider head_dim, kv heads times sequences, rows, keys (0 for rotations; the rows of a learned table).
pub(crate) fn sizes(kernel: Kernel, spec: &Spec, shape: &Shape) -> [u32; 4] {
    let [q_len, kv_len, sequences] = match spec.packed {
        true => [shape.max_seqlen_q, shape.max_seqlen_k, shape.sequences],
        false => [shape.q_len, shape.kv_len, shape.batch],
    };
    let (rows, heads) = match kernel {
        Kernel::Attention | Kernel::Scores => (q_len.saturating_mul(spec.group()), spec.num_kv_heads),
        Kernel::RotateK { .. } => (kv_len, spec.num_kv_heads),
        Kernel::Append { .. } => (q_len, spec.num_kv_heads.saturating_mul(2)),
        Kernel::RotateQ { .. } | Kernel::Linear | Kernel::Embed { .. } | Kernel::Merge => (q_len, spec.num_heads),
    };
    let keys = if kernel.rotates_only() { 0 } else { kv_len };
    [spec.head_dim.max(spec.v_head_dim), heads.saturating_mul(sequences), rows, keys]
}

/// The end of the class that a number is in.
pub(crate) fn class(ends: &[u32], n: u32) -> u32 {
    ends.iter().copied().find(|end| n <= *end).unwrap_or(u32::MAX)
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel.name(), self.dtype.name())?;
        let classes = [("d", self.head_dim), ("heads", self.heads), ("rows", self.rows), ("keys", self.keys)];
        for (name, end) in classes {
            match (name, end) {
                ("keys", _) if self.kernel.rotates_only() => {}
                (_, u32::MAX) => write!(f, " {name}-more")?,
                _ => write!(f, " {name}{end}")?,
            }
        }
        let named = TERMS.iter().enumerate().filter(|(bit, _)| self.terms >> bit & 1 == 1);
        let names: Vec<_> = named.map(|(_, name)| *name).collect();
        if names.is_empty() { Ok(()) } else { write!(f, " {}", names.join("+")) }
    }
}

/// Winners of buckets, as [`Limits`](crate::Limits) carry them: a set that is made once and kept for the rest of the process, so that limits stay plain
/// values. Making the same set again keeps it once.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tunings(&'static [(String, Tuning)]);

/// The sets that were made so far.
static KEPT: Mutex<Vec<&'static [(String, Tuning)]>> = Mutex::new(Vec::new());

impl Tunings {
    /// Winners by the names of their buckets; of several for one bucket the last, whatever the order of the rest.
    pub fn new(winners: impl IntoIterator<Item = (String, Tuning)>) -> Self {
        let sorted: std::collections::BTreeMap<String, Tuning> = winners.into_iter().collect();
        let set: Vec<_> = sorted.into_iter().collect();
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|known| **known == set.as_slice()).copied();
        Tunings(found.unwrap_or_else(|| {
            let set: &'static [_] = set.leak();
            kept.push(set);
            set
        }))
    }

    /// The winner of a bucket. Whether it suits a call is asked where it is planned.
    pub fn get(&self, bucket: &Bucket) -> Option<Tuning> {
        let name = bucket.to_string();
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(&name)).ok()?;
        self.0.get(at).map(|(_, tuning)| *tuning)
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Bucket and winner, sorted by bucket.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Tuning)> {
        self.0.iter().map(|(bucket, tuning)| (bucket.as_str(), *tuning))
    }
}
