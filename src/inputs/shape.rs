//! Capacities and strides: what a plan is laid out for.

use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::cache::Cache;
use crate::inputs::inputs::{MAX_ELEMENTS, MAX_LEN, MAX_ROWS, at_most};
use crate::inputs::tensor::Strides;

/// Shapes and strides of one kind of call: what a plan is made for. `kv_len` is the cache's capacity; the lengths in
/// use are step values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Shape {
    /// Sequences.
    pub batch: u32,
    /// The most query tokens of a step.
    pub q_len: u32,
    /// The capacity of k and v in tokens.
    pub kv_len: u32,
    /// How k and v lie in memory: as tensors, or as a pool of rows.
    pub cache: Cache,
    /// Strides of q.
    pub q: Strides,
    /// Strides of k.
    pub k: Strides,
    /// Strides of v.
    pub v: Strides,
    /// Strides of out.
    pub out: Strides,
    /// Strides of the new rows of k that [`Kernel::Append`](crate::Kernel::Append) reads, `q_len` tokens of each sequence.
    pub new_k: Strides,
    /// Strides of the new rows of v.
    pub new_v: Strides,
    /// The dense bias, every dimension 1 (broadcast) or that of `[batch, num_heads, q_len, kv_len]`.
    pub dense: [u32; 4],
    /// The boolean mask, likewise.
    pub mask: [u32; 4],
    /// Rows of the cos and sin tables, where the angle source is a table.
    pub angle_rows: u32,
    /// Words of `user_data`, behind the dense bias in `dense`.
    pub user_words: u32,
    /// The sequence of a larger problem that this one begins at: what `score_mod` and `mask_mod` count from.
    pub first_batch: u32,
    /// The query head of a larger problem that this one begins at.
    pub first_head: u32,
    /// Whether every tensor starts at a multiple of four elements; set it to false for odd buffer offsets.
    pub aligned: bool,
    /// The most sequences of a step, where `spec.packed`; `batch` is 1 then, `q_len` and `kv_len` count the tokens of all.
    pub sequences: u32,
    /// The most query tokens of one packed sequence, at most `q_len`: it bounds the grid. [`StepLayout::write`](crate::StepLayout::write)
    /// refuses a longer sequence, so that no row is lost.
    pub max_seqlen_q: u32,
    /// The most keys of one packed sequence, at most `kv_len`; likewise.
    pub max_seqlen_k: u32,
}

impl Shape {
    /// Contiguous `[batch, len, heads, dim]` everywhere.
    pub fn new(spec: &Spec, batch: u32, q_len: u32, kv_len: u32) -> Self {
        Shape {
            batch,
            q_len,
            kv_len,
            cache: Cache::Contiguous,
            q: Strides::bshd(q_len, spec.num_heads, spec.head_dim),
            k: Strides::bshd(kv_len, spec.num_kv_heads, spec.head_dim),
            v: Strides::bshd(kv_len, spec.num_kv_heads, spec.v_head_dim),
            out: Strides::bshd(q_len, spec.num_heads, spec.v_head_dim),
            new_k: Strides::bshd(q_len, spec.num_kv_heads, spec.head_dim),
            new_v: Strides::bshd(q_len, spec.num_kv_heads, spec.v_head_dim),
            dense: [batch, spec.num_heads, q_len, kv_len],
            mask: [batch, spec.num_heads, q_len, kv_len],
            angle_rows: kv_len,
            user_words: 0,
            first_batch: 0,
            first_head: 0,
            aligned: true,
            sequences: 1,
            max_seqlen_q: q_len,
            max_seqlen_k: kv_len,
        }
    }
    /// Contiguous `[1, total, heads, dim]` everywhere, of up to `sequences` packed sequences, each of up to all the tokens;
    /// lower `max_seqlen_q` and `max_seqlen_k` where none is that long.
    pub fn packed(spec: &Spec, sequences: u32, total_q: u32, total_kv: u32) -> Self {
        Shape { sequences, ..Shape::new(spec, 1, total_q, total_kv) }
    }

    /// What is multiplied anywhere with lengths, heads and sequences is bounded here, once; `spec` is valid. Afterwards
    ///
    /// - there is at least one token and sequence, lengths are at most 2^30, those of packed sequences at most those of all;
    /// - every element of the query rows `[batch, q_len, num_heads, head_dim or v_head_dim]` has an index of 32 bits, so that pairs
    ///   with keys, sizes of D and of masks are below 2^62;
    /// - a grid of sequences, heads and tokens has at most 2^40 rows. A row takes fewer than 2^17 words of scratch: two of at most
    ///   `MAX_HEAD_DIM`, and products, of which a tile of 32 rows or more takes at most `PRODUCT_BYTES`.
    ///
    /// So those fit u64. Strides are free: what goes by [`Strides::extent`] is u128.
    pub(crate) fn check(&self, spec: &Spec) -> Result<()> {
        let Shape { batch, q_len, kv_len, .. } = *self;
        if batch == 0 || q_len == 0 || kv_len == 0 || q_len > MAX_LEN || kv_len > MAX_LEN {
            return Err(Error::spec(
                "shape",
                format!("batch {batch}, q_len {q_len}, kv_len {kv_len}"),
                "give each 1 or more, lengths at most 2^30",
            ));
        }
        if spec.packed {
            self.check_packed()?;
        }
        self.cache.check(spec)?;
        let grid = self.sequences(spec);
        for (name, d) in [("dense", self.dense), ("mask", self.mask)] {
            let full = [batch, spec.num_heads, q_len, kv_len];
            if d.iter().zip(full).any(|(d, f)| *d != 1 && *d != f) {
                return Err(Error::spec(
                    format!("shape.{name}"),
                    format!("{d:?}"),
                    format!("let every dimension be 1 or that of {full:?}"),
                ));
            }
        }
        let dim = spec.head_dim.max(spec.v_head_dim);
        let [sequences, rows, keys] = grid;
        for (what, n, most) in [
            ("elements of query rows", [batch, q_len, spec.num_heads, dim], MAX_ELEMENTS),
            ("rows of queries", [sequences, rows, spec.num_heads, 1], MAX_ROWS),
            ("rows of keys", [sequences, keys, spec.num_kv_heads, 1], MAX_ROWS),
            ("rows of keys", [batch, kv_len, spec.num_kv_heads, 1], MAX_ROWS),
            ("pages of a block table", [sequences, self.cache.pages_of(keys), 1, 1], MAX_ELEMENTS),
        ] {
            at_most(what, n, most)?;
        }
        Ok(())
    }

    /// Sequences, and the most query tokens and keys of one.
    pub(crate) fn sequences(&self, spec: &Spec) -> [u32; 3] {
        match spec.packed {
            true => [self.sequences, self.max_seqlen_q, self.max_seqlen_k],
            false => [self.batch, self.q_len, self.kv_len],
        }
    }

    /// Batch entries and tokens of k and v as they lie in memory.
    pub(crate) fn rows_of_keys(&self) -> [u32; 2] {
        self.cache.rows().map_or([self.batch, self.kv_len], |rows| [1, rows])
    }

    /// The fields that packed sequences have.
    fn check_packed(&self) -> Result<()> {
        if self.batch != 1 {
            let help = "packed sequences lie in one batch entry: make the shape with Shape::packed";
            return Err(Error::spec("shape.batch", format!("is {}", self.batch), help));
        }
        for (field, n, most) in [
            ("shape.sequences", self.sequences, 1 << 30),
            ("shape.max_seqlen_q", self.max_seqlen_q, self.q_len),
            ("shape.max_seqlen_k", self.max_seqlen_k, self.kv_len),
        ] {
            if n == 0 || n > most {
                return Err(Error::spec(field, format!("is {n}"), format!("give 1 to {most}")));
            }
        }
        Ok(())
    }
}
