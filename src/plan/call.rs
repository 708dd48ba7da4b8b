//! What is asked: kernel, spec, shape, limits, checked against each other.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Strides;
use crate::plan::budget::OVERLAP;
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::plan::Plan;
use crate::plan::user;
use crate::plan::user::Cost;

/// Rounds of loops for a score, at most: the keys of a tile stay within what software adapters allow a dispatch.
const MAX_ROUNDS: u32 = 1024;

/// What a plan is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) spec: &'a Spec,
    pub(crate) shape: &'a Shape,
    pub(crate) limits: &'a Limits,
    /// Four elements are loaded at a time.
    pub(crate) aligned: bool,
    /// Of a score beyond its products: of terms and of the user's own functions.
    pub(crate) of_score: Cost,
}

impl<'a> Call<'a> {
    /// Of a spec that is valid, a shape whose products are in bounds, and limits that are WebGPU's defaults at least.
    pub(crate) fn new(kernel: Kernel, spec: &'a Spec, shape: &'a Shape, limits: &'a Limits) -> Result<Self> {
        spec.validate()?;
        spec.check_streams()?;
        if let Kernel::Embed { .. } = kernel {
            return Err(Error::spec("kernel", "is embed", "plan it with Plan::embed, which takes an Embed"));
        }
        if kernel == Kernel::Merge {
            return Err(Error::spec("kernel", "is merge", "plan it with Plan::merge, which takes a MergeShape"));
        }
        kernel.suits(spec)?;
        shape.check(spec)?;
        self::check_storage(kernel, spec, shape)?;
        Plan::check_limits(limits)?;
        let mut of_score = user::validate(spec)?;
        for term in spec.bias.iter().map(|bias| bias.term()) {
            of_score.rounds = of_score.rounds.saturating_add(term.rounds());
            of_score.operations = of_score.operations.saturating_add(term.operations());
        }
        if of_score.rounds > MAX_ROUNDS {
            let problem =
                format!("loop {} rounds for each score, of bias and user functions together", of_score.rounds);
            return Err(Error::spec("bias", problem, format!("let them be at most {MAX_ROUNDS}")));
        }
        Ok(Call { kernel, spec, shape, limits, aligned: self::is_aligned(kernel, spec, shape), of_score })
    }
}

/// See [`aligned`].
pub(crate) fn is_aligned(kernel: Kernel, spec: &Spec, shape: &Shape) -> bool {
    let source = if let Kernel::RotateK { .. } = kernel { shape.k } else { shape.q };
    let target = if kernel.in_place() { source } else { shape.out };
    aligned(kernel, spec, shape, source, target)
}

/// Whether every row starts and ends at a multiple of four elements, so that four are loaded at a time.
pub(crate) fn aligned(kernel: Kernel, spec: &Spec, shape: &Shape, source: Strides, target: Strides) -> bool {
    let fours = |s: &Strides| [s.batch, s.token, s.head].iter().all(|n| n.is_multiple_of(4));
    let dims = spec.head_dim.is_multiple_of(4);
    let rest = match kernel {
        Kernel::Attention | Kernel::Linear => {
            spec.v_head_dim.is_multiple_of(4) && [shape.k, shape.v, shape.out].iter().all(fours)
        }
        Kernel::Scores => fours(&shape.k),
        Kernel::Append { .. } => {
            let new = [shape.k, shape.v, shape.new_k, shape.new_v].iter().all(fours);
            return shape.aligned && dims && spec.v_head_dim.is_multiple_of(4) && new;
        }
        Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. } | Kernel::Merge => fours(&target),
    };
    shape.aligned && dims && fours(&source) && rest
}

/// Rows of k and v in blocks begin at blocks; nothing turns them where they are.
pub(crate) fn check_storage(kernel: Kernel, spec: &Spec, shape: &Shape) -> Result<()> {
    if let Kernel::RotateK { .. } = kernel
        && spec.k_storage().in_blocks()
    {
        let help = "leave keys unrotated, attention turns them, or rotate them before they are quantised";
        return Err(Error::spec("k_dtype", format!("is {}, which no kernel rotates", spec.k_storage().name()), help));
    }
    for (field, dtype, strides, dim) in
        [("shape.k", spec.k_storage(), shape.k, spec.head_dim), ("shape.v", spec.v_storage(), shape.v, spec.v_head_dim)]
    {
        let [unit, _] = dtype.block(dim);
        if ![strides.batch, strides.token, strides.head].iter().all(|n| n.is_multiple_of(unit)) {
            let problem = format!("{strides:?}, of whole blocks of {unit} elements ({})", dtype.name());
            return Err(Error::spec(field, problem, format!("give multiples of {unit}")));
        }
    }
    Ok(())
}

/// Rows in place are read and written once.
pub(crate) fn check_target(kernel: Kernel, spec: &Spec, shape: &Shape, target: Strides) -> Result<()> {
    if let Kernel::Append { rows } = kernel {
        for cache in [spec.k_storage(), spec.v_storage()] {
            if rows.in_blocks() {
                let help = "give new rows in f32, f16 or bf16";
                return Err(Error::spec("kernel", format!("appends rows in {}", rows.name()), help));
            }
            if rows != cache && rows != Dtype::F32 && !cache.in_blocks() {
                let help = "give new rows in f32 or in the type of the caches";
                return Err(Error::spec("kernel", format!("appends {} to {}", rows.name(), cache.name()), help));
            }
        }
        let stored = [spec.k_storage(), spec.v_storage()];
        let [shared, in_blocks] = [stored.map(Dtype::shares_words), stored.map(Dtype::in_blocks)];
        let differ = shared[0] != shared[1] || in_blocks[0] != in_blocks[1];
        if differ && !self::is_aligned(kernel, spec, shape) {
            let problem = format!(
                "is {} beside k in {}, with rows that are not aligned",
                spec.v_storage().name(),
                spec.k_storage().name()
            );
            return Err(Error::spec(
                "v_dtype",
                problem,
                "let rows be multiples of four elements, new ones too, or k and v of one size",
            ));
        }
        let apart = |strides: Strides, dim: u32| strides.disjoint(shape.batch, shape.kv_len, spec.num_kv_heads, dim);
        for (field, strides, dim) in [("shape.k", shape.k, spec.head_dim), ("shape.v", shape.v, spec.v_head_dim)] {
            if !apart(strides, dim) {
                let problem = format!("{strides:?}: rows of {dim} elements overlap");
                return Err(Error::spec(field, problem, OVERLAP));
            }
        }
    }
    let (field, tokens, heads, dim) = match kernel {
        Kernel::RotateK { in_place: true } => ("shape.k", shape.kv_len, spec.num_kv_heads, spec.head_dim),
        Kernel::RotateQ { in_place: true } => ("shape.q", shape.q_len, spec.num_heads, spec.head_dim),
        // `out` is the caller's to lay out, a tensor of its own
        _ => return Ok(()),
    };
    match target.disjoint(shape.batch, tokens, heads, dim) {
        true => Ok(()),
        false => Err(Error::spec(field, format!("{target:?}: rows of {dim} elements overlap"), OVERLAP)),
    }
}
