//! The user's own `score_mod` and `mask_mod`: WGSL text for the kernels, a Rust closure beside it for the reference.
//!
//! ```wgsl
//! fn score_mod(s: f32, at: ScoreAt) -> f32 { ... }   // after the cap and every additive term, before the mask
//! fn mask_mod(at: ScoreAt) -> bool { ... }           // true: attend; joined to the other masks
//! ```
//!
//! Each text stands alone: it may declare functions, constants, structs and aliases of its own, and use WGSL's built-in
//! functions and
//!
//! | name | what it is |
//! |---|---|
//! | `ScoreAt` | where a score stands: the fields of [`ScoreAt`], with the same names |
//! | `distance(at) -> i32` | n - m, saturated: [`ScoreAt::distance`] |
//! | `tanh_f32(x) -> f32` | tanh to a few units of the last place (WGSL's own may be off by 1e-5) |
//! | `user_u32(i) -> u32`, `user_f32(i) -> f32` | word i of [`Inputs::user_data`](crate::Inputs::user_data), as its bits or as a float; 0 past the end |
//! | `user_words() -> u32` | how many words there are |
//!
//! Nothing else of the kernel is in reach: no buffers, workgroup or private variables, barriers, atomics, entry points,
//! bindings or overrides. Loops have constant bounds, `for (var i = A; i < B; i += C)`, and make at most 512 rounds in a
//! call. [`Plan::new`](crate::Plan::new) validates all of that with naga (the feature `naga`, part of `wgpu`); errors name the
//! user's line and column. Names that begin with `my_` will never clash with a kernel's.
//!
//! # A soft cap and a tree of drafted tokens
//!
//! ```
//! use ropewalk::{Inputs, MaskMod, ScoreMod, Spec, Tensor, reference};
//! let mut spec = Spec::new(1, 1, 4);
//! spec.score_mod = Some("fn score_mod(s: f32, at: ScoreAt) -> f32 { return 30.0 * tanh_f32(s / 30.0); }".into());
//! // token i of the tree sees key j of it if j is i or above it; the root's parent is the root
//! spec.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool {
//!     var node = at.i;
//!     for (var up = 0; up < 8; up++) {
//!         if (node == at.j) { return true; }
//!         node = user_u32(node);
//!     }
//!     return false;
//! }".into());
//!
//! let t = |x: f32| Tensor::bshd(vec![x; 4 * 4], [1, 4, 1, 4]);
//! let mut inputs = Inputs::new(t(1.0)?, t(2.0)?, t(3.0)?);
//! let parents = [0, 0, 0, 1];
//! inputs.user_data = parents.to_vec();
//! // the twins, for the reference and the check
//! inputs.score_mod = Some(ScoreMod::new(24.0, |s, _| 30.0 * (s / 30.0).tanh()));
//! inputs.mask_mod = Some(MaskMod::new(move |at| {
//!     std::iter::successors(Some(at.i), |node| Some(parents[*node as usize])).take(8).any(|node| node == at.j)
//! }));
//! let scores = reference::scores(&spec, &inputs)?;
//! let seen: Vec<bool> = scores.iter().map(|s| s.is_finite()).collect();
//! assert_eq!(seen[12..], [true, true, false, true]); // token 3: itself, its parent 1, the root
//! # Ok::<(), ropewalk::Error>(())
//! ```
//!
//! # Rules
//!
//! A function reads positions and indices as it likes; the masks of a spec go by index, and so should a mask_mod. It skips no
//! tiles of keys: keep causal and window masks in the spec, beside it. Division and integer overflow are what WGSL says. WGSL's
//! sin, cos, tan, pow and tanh differ between drivers; results repeat to the bit on one.
//!
//! The kernels' rules hold whatever a function returns: a NaN score stays NaN and makes its row NaN, a result that is NaN or
//! +inf does the same, one below `SCORE_FLOOR` is taken as that.

pub(crate) mod text;
use crate::equation::defaults::SCORE_FLOOR;
use crate::equation::spec::Spec;
use std::fmt;
use std::sync::Arc;

/// Where a score stands: what `score_mod` and `mask_mod` may ask. The struct of the same name in the shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ScoreAt {
    /// Sequence.
    pub batch: u32,
    /// Query head.
    pub head: u32,
    /// Query row.
    pub i: u32,
    /// Key row.
    pub j: u32,
    /// i': where row i stands among the keys.
    pub q_index: i32,
    /// m.
    pub q_pos: i32,
    /// n.
    pub k_pos: i32,
}

impl ScoreAt {
    /// n - m, saturated to 2^31 - 1 on both sides: `distance(at)` of the shaders.
    pub fn distance(&self) -> i32 {
        (self.k_pos as i64 - self.q_pos as i64).clamp(-(i32::MAX as i64), i32::MAX as i64) as i32
    }
}

/// A score's twin.
type Function = Arc<dyn Fn(f64, &ScoreAt) -> f64 + Send + Sync>;

/// How far a shader's `score_mod` may be from its closure at the same s.
type Rounding = Arc<dyn Fn(f64, f64, &ScoreAt) -> f64 + Send + Sync>;

/// The twin of `spec.score_mod` in f64, with what the text's roundings may add: the reference and the check use it.
///
/// ```
/// use ropewalk::ScoreMod;
/// let slopes = [0.25, 0.0625];
/// // ALiBi: one product, one sum
/// let alibi = ScoreMod::new(2.0, move |s, at| s + slopes[at.head as usize] * at.distance() as f64);
/// # let _ = alibi;
/// ```
#[derive(Clone)]
pub struct ScoreMod {
    function: Function,
    rounding: Rounding,
}

impl ScoreMod {
    /// `function` in f64; the text, given the same s, errs by at most `roundings` units of 2^-24 of |s| + |result|.
    ///
    /// An addition or a product is one rounding; of `s + a * b` it takes two, since |a b| is at most |s| + |result|.
    pub fn new(roundings: f64, function: impl Fn(f64, &ScoreAt) -> f64 + Send + Sync + 'static) -> Self {
        let unit = 2f64.powi(-24);
        let rounding = move |s: f64, result: f64, _: &ScoreAt| roundings * unit * (s.abs() + result.abs());
        ScoreMod { function: Arc::new(function), rounding: Arc::new(rounding) }
    }
    /// The same function with an allowance of its own: `rounding(s, result, at)` is the largest |text - closure| for the
    /// same s.
    pub fn with_rounding(self, rounding: impl Fn(f64, f64, &ScoreAt) -> f64 + Send + Sync + 'static) -> Self {
        ScoreMod { rounding: Arc::new(rounding), ..self }
    }
    /// NaN for +inf, as the kernels take it.
    pub(crate) fn value(&self, s: f64, at: &ScoreAt) -> f64 {
        let value = (self.function)(s, at);
        if value == f64::INFINITY { f64::NAN } else { value }
    }
    /// How far the text's result, not below the floor, may be from `value(s)` where s errs by at most `error`: the closure
    /// at both ends and half-way, and the text's own roundings.
    pub(crate) fn error(&self, s: f64, error: f64, at: &ScoreAt) -> f64 {
        let value = self.value(s, at);
        let floored = |x: f64| if x < SCORE_FLOOR { SCORE_FLOOR } else { x };
        let (mut worst, mut rounding) = (0.0f64, 0.0f64);
        for step in [0.0, -1.0, -0.5, 0.5, 1.0] {
            let near = s + step * error;
            let moved = self.value(near, at);
            if moved.is_nan() != value.is_nan() {
                return f64::INFINITY;
            }
            worst = worst.max((floored(moved) - floored(value)).abs());
            // what stays below the floor whatever its roundings is the floor
            let own = if moved > f64::NEG_INFINITY { (self.rounding)(near, moved, at) } else { 0.0 };
            let below = moved == f64::NEG_INFINITY || moved + own <= SCORE_FLOOR;
            rounding = rounding.max(if below { 0.0 } else { own });
        }
        worst + rounding
    }
}

/// The twin of `spec.mask_mod`: true to attend.
#[derive(Clone)]
pub struct MaskMod {
    function: Arc<dyn Fn(&ScoreAt) -> bool + Send + Sync>,
}

impl MaskMod {
    /// Decides as the text does.
    pub fn new(function: impl Fn(&ScoreAt) -> bool + Send + Sync + 'static) -> Self {
        MaskMod { function: Arc::new(function) }
    }
    pub(crate) fn visible(&self, at: &ScoreAt) -> bool {
        (self.function)(at)
    }
}

// Closures have neither text nor equality: two are the same if they are one.
impl fmt::Debug for ScoreMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScoreMod(closure)")
    }
}

impl fmt::Debug for MaskMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskMod(closure)")
    }
}

impl PartialEq for ScoreMod {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function, &other.function) && Arc::ptr_eq(&self.rounding, &other.rounding)
    }
}

impl PartialEq for MaskMod {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function, &other.function)
    }
}

/// One of the two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Score,
    Mask,
}

impl Role {
    /// The function, the field of the spec, and the file of its errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Score => "score_mod",
            Role::Mask => "mask_mod",
        }
    }
    #[cfg(feature = "naga")]
    pub(crate) fn signature(self) -> &'static str {
        match self {
            Role::Score => "fn score_mod(s: f32, at: ScoreAt) -> f32",
            Role::Mask => "fn mask_mod(at: ScoreAt) -> bool",
        }
    }
}

/// The texts of a spec, by the names that errors and [`Plan::locate`](crate::Plan::locate) give them.
pub(crate) fn texts(spec: &Spec) -> Vec<(&'static str, &str)> {
    let named = [(Role::Score, &spec.score_mod), (Role::Mask, &spec.mask_mod)];
    named.into_iter().filter_map(|(role, text)| Some((role.name(), text.as_deref()?))).collect()
}

/// Whether a text reads [`Inputs::user_data`](crate::Inputs::user_data).
pub(crate) fn reads_data(spec: &Spec) -> bool {
    texts(spec).iter().any(|(_, text)| text::mentions(text, &["user_u32", "user_f32", "user_words"]))
}

/// Whether a text mentions a helper.
pub(crate) fn mentions(spec: &Spec, helper: &str) -> bool {
    texts(spec).iter().any(|(_, text)| text::mentions(text, &[helper]))
}
