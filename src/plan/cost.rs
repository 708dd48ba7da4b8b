//! What a plan has to do: useful operations, bytes that must move, memory that it takes. Pure functions of the plan, so that every
//! rate which is printed anywhere has one definition.

use crate::equation::dtype::Dtype;
use crate::equation::relative::RelativeSide;
use crate::plan::kernel::Kernel;
use crate::plan::linear::StateLayout;
use crate::plan::pairs::pairs_of_head;
use crate::plan::plan::Plan;
use crate::shader::layout::Slot;

/// Operations that turning one pair takes: four products, two sums. The angle's are not counted.
const FLOP_PER_TURN: f64 = 6.0;

impl Plan {
    /// Useful floating-point operations, two for a multiply-add, at the plan's full lengths.
    ///
    /// Of attention they are the products with keys and values of the (query, key) pairs that its masks leave - half of a causal square - and those of
    /// relative tables, each made as rarely as it can be: `min(rows, visible keys)` for every query. What a kernel does beyond that is overhead, and not
    /// counted: masked halves of tiles, softmax, rotation, bias. Of a rotation alone they are 6 for every pair of elements, of `linear`
    /// the update and the use of its state, of `embed` 2 an element. A boolean mask, D, user functions and shorter lengths, which only a call
    /// knows, hide nothing here; packed sequences are taken as equally long.
    ///
    /// ```
    /// use ropewalk::{Kernel, Limits, Mask, Plan, Shape, Spec};
    /// let mut spec = Spec::new(8, 2, 64);
    /// spec.mask = Mask::causal();
    /// let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 4, 4), &Limits::default())?;
    /// assert_eq!(plan.flop(), (8 * (1 + 2 + 3 + 4) * 2 * (64 + 64)) as f64); // heads, pairs, q k and p v
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    pub fn flop(&self) -> f64 {
        let (spec, shape) = (self.spec(), self.shape());
        let rows = |len: u32, heads: u32| shape.batch as f64 * len as f64 * heads as f64;
        let turns = spec.rotary.as_ref().map_or(0.0, |r| (r.rotary_dim / 2) as f64) * FLOP_PER_TURN;
        let (d, dv) = (spec.head_dim as f64, spec.v_head_dim as f64);
        match self.kernel() {
            Kernel::Attention => self.visible_pairs() as f64 * 2.0 * (d + dv) + self.relative_flop(true),
            Kernel::Scores => self.visible_pairs() as f64 * 2.0 * d + self.relative_flop(false),
            Kernel::Linear => {
                let states = rows(shape.kv_len, spec.num_kv_heads) + rows(shape.q_len, spec.num_heads);
                2.0 * spec.features() as f64 * dv * states
            }
            Kernel::Append { .. } => {
                rows(shape.q_len, spec.num_kv_heads) * if spec.keys_rotated() { turns } else { 0.0 }
            }
            Kernel::RotateQ { .. } => rows(shape.q_len, spec.num_heads) * turns,
            Kernel::RotateK { .. } => rows(shape.kv_len, spec.num_kv_heads) * turns,
            Kernel::Embed { .. } => rows(shape.q_len, 1) * 2.0 * d,
            Kernel::Merge => rows(shape.q_len, spec.num_heads) * 2.0 * dv * self.params.splits as f64,
        }
    }

    /// (query, key) pairs that the plan's masks leave, over all heads and sequences, under the conditions of [`Plan::flop`].
    pub fn visible_pairs(&self) -> u64 {
        let (spec, shape) = (self.spec(), self.shape());
        shape.batch as u64 * spec.num_heads as u64 * pairs_of_head(spec, shape)
    }

    /// Products with the rows of relative tables.
    fn relative_flop(&self, values: bool) -> f64 {
        let (spec, shape) = (self.spec(), self.shape());
        let pairs = pairs_of_head(spec, shape);
        let (heads, kv_heads) = (spec.num_heads as u64, spec.num_kv_heads as u64);
        let (d, dv) = (spec.head_dim as u64, spec.v_head_dim as u64);
        let (q_len, kv_len) = (shape.q_len as u64, shape.kv_len as u64);
        let of = |relative: &crate::equation::relative::Relative| {
            let rows = relative.index.rows();
            match relative.side {
                RelativeSide::Key => heads * (rows * q_len).min(pairs) * d,
                RelativeSide::Query if relative.per_head => heads * (rows * kv_len).min(pairs) * d,
                RelativeSide::Query => kv_heads * (rows * kv_len).min(spec.group() as u64 * pairs) * d,
                RelativeSide::Value if values => heads * (rows * q_len).min(pairs) * dv,
                RelativeSide::Value => 0,
            }
        };
        2.0 * shape.batch as f64 * spec.relative.iter().map(of).sum::<u64>() as f64
    }

    /// Bytes that must move, at the plan's full lengths: every input read once, every result written once, nothing else. Scratch and
    /// second readings are the kernel's own affair.
    pub fn bytes(&self) -> u64 {
        let (spec, shape) = (self.spec(), self.shape());
        let of = |dtype: Dtype, len: u32, heads: u32, dim: u32| {
            shape.batch as u64 * len as u64 * heads as u64 * dtype.row_bytes(dim)
        };
        let [q, k] = [(shape.q_len, spec.num_heads), (shape.kv_len, spec.num_kv_heads)];
        let (of_k, of_v, of_out) = (spec.k_storage(), spec.v_storage(), spec.out_storage());
        let (q_bytes, k_bytes) = (of(spec.dtype, q.0, q.1, spec.head_dim), of(of_k, k.0, k.1, spec.head_dim));
        let v_bytes = of(of_v, k.0, k.1, spec.v_head_dim);
        let rows = shape.batch as u64 * shape.q_len as u64 * spec.num_heads as u64;
        let (read, written) = match self.kernel() {
            Kernel::Attention => (q_bytes + k_bytes + v_bytes, of(of_out, q.0, q.1, spec.v_head_dim) + 4 * rows),
            Kernel::Scores => (q_bytes + k_bytes, 4 * rows * shape.kv_len as u64),
            Kernel::Linear => {
                let state = 4 * StateLayout::new(spec, shape.batch).words;
                let before = if spec.linear.as_ref().is_some_and(|l| l.initial_state) { state } else { 0 };
                (q_bytes + k_bytes + v_bytes + before, of(of_out, q.0, q.1, spec.v_head_dim) + state)
            }
            Kernel::Append { rows } => {
                let heads = spec.num_kv_heads;
                let both = |k: Dtype, v: Dtype| {
                    of(k, shape.q_len, heads, spec.head_dim) + of(v, shape.q_len, heads, spec.v_head_dim)
                };
                (both(rows, rows), both(of_k, of_v))
            }
            Kernel::RotateQ { .. } => (q_bytes, q_bytes),
            Kernel::RotateK { .. } => (k_bytes, k_bytes),
            // lse of the parts stands in `tables`
            Kernel::Merge => (q_bytes * self.params.splits as u64, q_bytes + 4 * rows),
            Kernel::Embed { .. } => {
                let table =
                    if self.binding(Slot::K).is_some() { of(spec.dtype, shape.q_len, 1, spec.head_dim) } else { 0 };
                (q_bytes + table, q_bytes)
            }
        };
        let size = |slot: Slot| self.binding(slot).map_or(0, |b| b.size);
        read + written + size(Slot::Tables) + size(Slot::Dense) + size(Slot::Step)
    }

    /// Bytes of all buffers that the plan binds, its peak on a device: inputs, results, scratch and uniforms.
    pub fn peak_bytes(&self) -> u64 {
        self.bindings().iter().map(|b| b.size).sum()
    }
}
