//! What changes with every step, and where a caller writes it: the words of the buffer `step`.

use crate::error::{Error, Result};
use crate::inputs::cache::{Cache, Rows};
use crate::inputs::inputs::Dense;
use crate::inputs::packed;
use std::ops::Range;

/// Where the caller writes what changes with every step: word offsets into the `step` buffer (u32 words).
///
/// Words 0 and 1 are q_len and kv_len. Positions are i32 bit patterns with the capacity as row stride; mask bits are
/// 32 keys a word, the lowest bit first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StepLayout {
    /// Words in all.
    pub words: u32,
    /// `[streams, batch, q_capacity]` i32.
    pub q_positions: Option<Range<u32>>,
    /// `[streams, batch, kv_capacity]` i32.
    pub k_positions: Option<Range<u32>>,
    /// `[batch, q_capacity]` i32.
    pub q_segments: Option<Range<u32>>,
    /// `[batch, kv_capacity]` i32.
    pub k_segments: Option<Range<u32>>,
    /// `[batch]` u32.
    pub kv_lens: Option<Range<u32>>,
    /// `[sequences + 1]` u32; a step of fewer sequences repeats the last entry to the end.
    pub cu_seqlens_q: Option<Range<u32>>,
    /// `[sequences + 1]` u32, likewise.
    pub cu_seqlens_k: Option<Range<u32>>,
    /// `[sequences]` u32: the first row of a sequence in the pool, where `shape.cache` is slots.
    pub slots: Option<Range<u32>>,
    /// `[sequences, ceil(keys of a sequence / page_size)]` u32: its pages in order, where `shape.cache` is pages.
    pub block_table: Option<Range<u32>>,
    /// `[batch or 1, heads or 1, q_capacity or 1, ceil(kv_capacity / 32)]`.
    pub mask: Option<Range<u32>>,
    #[serde(skip)]
    pub(crate) cache: Cache,
    #[serde(skip)]
    pub(crate) streams: u32,
    #[serde(skip)]
    pub(crate) mask_shape: [u32; 4],
    #[serde(skip)]
    pub(crate) shape: [u32; 3],
    /// `max_seqlen_q` and `max_seqlen_k` of the shape.
    #[serde(skip)]
    pub(crate) max_seqlens: [u32; 2],
    /// The most sequences.
    #[serde(skip)]
    pub(crate) sequences: u32,
    /// Rows of a table that every q position must be one of.
    #[serde(skip)]
    pub(crate) rows: Option<u32>,
    /// Whether the query tokens are the last keys.
    #[serde(skip)]
    pub(crate) appends: bool,
}

/// The values of one step, as [`StepLayout::write`] takes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step<'a> {
    /// Query tokens, at most the plan's q_len.
    pub q_len: u32,
    /// Keys in use, at most the plan's kv_len; with kv_lens, an upper bound of them.
    pub kv_len: u32,
    /// Keys in use of every sequence, where `spec.kv_lens`.
    pub kv_lens: &'a [u32],
    /// `[streams, batch, len]` with len from `q_len` to the capacity, where `spec.positions` is `Ids`.
    pub q_positions: &'a [i32],
    /// `[streams, batch, len]` with len from `kv_len` to the capacity, where `spec.positions` is `Ids`.
    pub k_positions: &'a [i32],
    /// `[batch, len]` with len from `q_len` to the capacity, where a term reads segments.
    pub q_segments: &'a [i32],
    /// `[batch, len]` with len from `kv_len` to the capacity, where a term reads segments.
    pub k_segments: &'a [i32],
    /// `[sequences + 1]`, where `spec.packed`: the first token of every sequence in q, then `q_len`. No more sequences than the plan
    /// has, none longer than its `max_seqlen_q`.
    pub cu_seqlens_q: &'a [u32],
    /// The same in k, to `kv_len`.
    pub cu_seqlens_k: &'a [u32],
    /// `[sequences]`, where `shape.cache` is slots: the row of the pool where a sequence's keys start.
    pub slots: &'a [u32],
    /// `[sequences, pages of a sequence]`, where `shape.cache` is pages: the pages of a sequence in the order of its keys, as many columns as
    /// the longest takes, or more; entries behind a sequence's last key are not read.
    pub block_table: &'a [u32],
    /// true: attend, where `spec.mask.dense`; the shape that the plan was made for.
    pub mask: Option<&'a Dense<bool>>,
}

impl StepLayout {
    /// q_positions alone, which must be rows of a table if there is one.
    pub(crate) fn of_positions(words: u32, [batch, len]: [u32; 2], rows: Option<u32>) -> Self {
        StepLayout {
            words,
            q_positions: Some(8..words),
            k_positions: None,
            q_segments: None,
            cu_seqlens_q: None,
            cu_seqlens_k: None,
            max_seqlens: [0; 2],
            sequences: batch,
            k_segments: None,
            streams: 1,
            kv_lens: None,
            slots: None,
            block_table: None,
            cache: Cache::Contiguous,
            mask: None,
            mask_shape: [1; 4],
            shape: [batch, len, 0],
            rows,
            appends: false,
        }
    }

    /// Writes a step into `words` (at least `self.words` of them), without allocating. What the spec does not use is an error where it is
    /// given; after an error nothing is written.
    ///
    /// ```
    /// use ropewalk::{Kernel, Limits, Mask, Plan, Shape, Spec, Step};
    /// let mut spec = Spec::new(8, 2, 64);
    /// (spec.packed, spec.mask) = (true, Mask::causal());
    /// // up to 16 sequences, 512 query tokens and 4096 keys in all, of one sequence at most 128 and 1024
    /// let mut shape = Shape::packed(&spec, 16, 512, 4096);
    /// (shape.max_seqlen_q, shape.max_seqlen_k) = (128, 1024);
    /// let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default())?;
    /// let mut words = vec![0; plan.step_layout().words as usize];
    /// // three sequences: a prompt of 100 tokens, and one token each after caches of 300 and 7
    /// let (q, k) = ([0, 100, 101, 102], [0, 100, 400, 407]);
    /// let step = Step { q_len: 102, kv_len: 407, cu_seqlens_q: &q, cu_seqlens_k: &k, ..Step::default() };
    /// plan.step_layout().write(&step, &mut words)?;
    /// let longer = Step { q_len: 200, cu_seqlens_q: &[0, 198, 199, 200], ..step };
    /// let error = plan.step_layout().write(&longer, &mut words).unwrap_err();
    /// assert!(error.to_string().contains("sequence 0 has 198 tokens"));
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    pub fn write(&self, step: &Step, words: &mut [u32]) -> Result<()> {
        let Some(words) = words.get_mut(..self.words as usize) else {
            return Err(Error::input("step", format!("{} words", words.len()), format!("give {} of them", self.words)));
        };
        self.check(step)?;
        words[..8].copy_from_slice(&[step.q_len, step.kv_len, 0, 0, 0, 0, 0, 0]);
        let mut copy = |at: &Option<Range<u32>>, values: &[u32]| {
            let at = at.as_ref().map_or(0..0, |at| at.start as usize..at.end as usize);
            words.get_mut(at).unwrap_or_default().iter_mut().zip(values).for_each(|(word, value)| *word = *value);
        };
        copy(&self.kv_lens, step.kv_lens);
        copy(&self.slots, step.slots);
        for (at, starts) in [(&self.cu_seqlens_q, step.cu_seqlens_q), (&self.cu_seqlens_k, step.cu_seqlens_k)] {
            let Some(at) = at else { continue };
            let total = starts.last().copied().unwrap_or(0);
            let padded = starts.iter().copied().chain(std::iter::repeat(total));
            let to = words.iter_mut().take(at.end as usize).skip(at.start as usize);
            to.zip(padded).for_each(|(word, start)| *word = start);
        }
        if let Some(at) = &self.block_table {
            let to = words.get_mut(at.start as usize..at.end as usize).unwrap_or_default();
            let width = to.len() / (self.sequences as usize).max(1);
            let given = step.block_table.chunks(self.width(step).max(1));
            for (to, from) in to.chunks_mut(width.max(1)).zip(given) {
                to.iter_mut().zip(from).for_each(|(word, page)| *word = *page);
            }
        }
        for (_, at, ids, streams, _, capacity) in self.ids(step) {
            let Some(at) = at else { continue };
            let len = ids.len() / (streams as usize * self.shape[0] as usize);
            for (b, row) in ids.chunks_exact(len.max(1)).enumerate() {
                let start = at.start as usize + b * capacity as usize;
                words[start..start + len].copy_from_slice(bytemuck::cast_slice(row));
            }
        }
        if let (Some(at), Some(mask)) = (&self.mask, step.mask) {
            self.write_mask(mask, &mut words[at.start as usize..at.end as usize]);
        }
        Ok(())
    }

    /// What has a row for every token: name, range, values, streams, the least and the most tokens.
    #[allow(clippy::type_complexity)] // a table
    fn ids<'a>(&self, step: &Step<'a>) -> [(&'static str, &Option<Range<u32>>, &'a [i32], u32, u32, u32); 4] {
        let [_, q_capacity, kv_capacity] = self.shape;
        [
            ("q_positions", &self.q_positions, step.q_positions, self.streams, step.q_len, q_capacity),
            ("k_positions", &self.k_positions, step.k_positions, self.streams, step.kv_len, kv_capacity),
            ("q_segments", &self.q_segments, step.q_segments, 1, step.q_len, q_capacity),
            ("k_segments", &self.k_segments, step.k_segments, 1, step.kv_len, kv_capacity),
        ]
    }

    /// Pages that a step names for each sequence.
    fn width(&self, step: &Step) -> usize {
        step.block_table.len() / step.cu_seqlens_k.len().saturating_sub(1).max(1)
    }

    /// A step that the plan can run, before any of it is written.
    fn check(&self, step: &Step) -> Result<()> {
        let [batch, q_capacity, kv_capacity] = self.shape;
        for (name, n, capacity) in [("q_len", step.q_len, q_capacity), ("kv_len", step.kv_len, kv_capacity)] {
            if n > capacity {
                return Err(Error::input(name, format!("{n} of {capacity}"), "plan for a larger shape, or give less"));
            }
        }
        self.check_unused(step)?;
        crate::equation::embed::Embed::check_positions(self.rows, step.q_positions)?;
        let lens_fit = step.kv_lens.len() == batch as usize && step.kv_lens.iter().all(|n| *n <= step.kv_len);
        if self.kv_lens.is_some() && !lens_fit {
            return Err(Error::input(
                "kv_lens",
                format!("{:?}", step.kv_lens),
                format!("give one length for each of {batch} sequences, none above kv_len = {}", step.kv_len),
            ));
        }
        self.check_appended(step)?;
        self.check_sequences(step)?;
        self.check_placement(step)?;
        for (name, at, ids, streams, least, capacity) in self.ids(step) {
            let rows = streams as usize * batch as usize;
            let len = ids.len() / rows;
            if at.is_some() && (ids.len() != len * rows || len < least as usize || len > capacity as usize) {
                return Err(Error::input(
                    name,
                    format!("{} values for {streams} streams of {batch} sequences", ids.len()),
                    format!("give [streams, batch, len] with len from {least} to {capacity}"),
                ));
            }
        }
        let shape = step.mask.map(|mask| mask.shape);
        if self.mask.is_some() && shape != Some(self.mask_shape) {
            let help = format!("the plan was made for {:?}", self.mask_shape);
            return Err(Error::input("mask", format!("shape {shape:?}"), help));
        }
        Ok(())
    }

    /// New rows are keys of their sequence.
    fn check_appended(&self, step: &Step) -> Result<()> {
        let lens = if self.kv_lens.is_some() { step.kv_lens } else { &[step.kv_len][..] };
        let packed = self.cu_seqlens_q.is_some();
        let short = |(s, (new, keys)): (usize, (u32, u32))| (new > keys).then_some((s, new, keys));
        let found = match (self.appends, packed) {
            (false, _) => None,
            (true, false) => lens.iter().map(|keys| (step.q_len, *keys)).enumerate().find_map(short),
            (true, true) => {
                let both = packed::lengths(step.cu_seqlens_q).zip(packed::lengths(step.cu_seqlens_k));
                both.enumerate().find_map(short)
            }
        };
        match found {
            None => Ok(()),
            Some((s, new, keys)) => Err(Error::input(
                "kv_len",
                format!("sequence {s} has {keys} keys, and {new} new rows of them"),
                "count the new rows: kv_len is the length after them",
            )),
        }
    }

    /// What a step gives, the layout must have.
    fn check_unused(&self, step: &Step) -> Result<()> {
        let unused = [
            ("kv_lens", &self.kv_lens, step.kv_lens.len(), "spec.kv_lens"),
            ("q_positions", &self.q_positions, step.q_positions.len(), "spec.positions ids"),
            ("k_positions", &self.k_positions, step.k_positions.len(), "spec.positions ids"),
            ("q_segments", &self.q_segments, step.q_segments.len(), "an index map over segments"),
            ("k_segments", &self.k_segments, step.k_segments.len(), "an index map over segments"),
            ("cu_seqlens_q", &self.cu_seqlens_q, step.cu_seqlens_q.len(), "spec.packed"),
            ("cu_seqlens_k", &self.cu_seqlens_k, step.cu_seqlens_k.len(), "spec.packed"),
            ("slots", &self.slots, step.slots.len(), "shape.cache slots"),
            ("block_table", &self.block_table, step.block_table.len(), "shape.cache pages"),
            ("mask", &self.mask, step.mask.map_or(0, |mask| mask.data.len()), "spec.mask.dense"),
        ];
        match unused.into_iter().find(|(_, at, given, _)| at.is_none() && *given > 0) {
            Some((name, _, given, field)) => Err(Error::input(
                name,
                format!("{given} values given"),
                format!("the spec does not read them ({field}): set it, or leave them out"),
            )),
            None => Ok(()),
        }
    }

    fn check_sequences(&self, step: &Step) -> Result<()> {
        let (Some(at_q), Some(at_k)) = (&self.cu_seqlens_q, &self.cu_seqlens_k) else { return Ok(()) };
        let (q, k) = (step.cu_seqlens_q, step.cu_seqlens_k);
        packed::check(q, k, step.q_len, step.kv_len)?;
        let both = [("cu_seqlens_q", q, at_q, "max_seqlen_q"), ("cu_seqlens_k", k, at_k, "max_seqlen_k")];
        for ((name, starts, at, field), most) in both.into_iter().zip(self.max_seqlens) {
            if starts.len() > at.len() {
                let problem = format!("{} sequences of {}", starts.len() - 1, at.len() - 1);
                return Err(Error::input(name, problem, "plan for a larger shape.sequences, or give fewer"));
            }
            if let Some((s, n)) = packed::lengths(starts).enumerate().find(|(_, n)| *n > most) {
                let help = format!("plan for a larger shape.{field}, which is {most}");
                return Err(Error::input(name, format!("sequence {s} has {n} tokens"), help));
            }
        }
        Ok(())
    }

    /// Where the keys of every sequence stand in the pool.
    fn check_placement(&self, step: &Step) -> Result<()> {
        let width = self.width(step);
        let rows = match self.cache {
            Cache::Contiguous => return Ok(()),
            Cache::Pages { page_size, .. } => Rows::Pages { page_size, width, table: step.block_table },
            Cache::Slots { .. } => Rows::Slots(step.slots),
        };
        let sequences = step.cu_seqlens_k.len().saturating_sub(1);
        rows.check(self.cache, sequences, |s| length(step.cu_seqlens_k, s))?;
        if self.appends { self.check_written_pages(step, width, sequences) } else { Ok(()) }
    }

    /// New rows go where no other sequence has a key: behind all of theirs, where a page is shared.
    fn check_written_pages(&self, step: &Step, width: usize, sequences: usize) -> Result<()> {
        let Cache::Pages { page_size, .. } = self.cache else { return Ok(()) };
        let [new, len] = [step.cu_seqlens_q, step.cu_seqlens_k].map(|starts| move |s: usize| length(starts, s));
        // its page n, and the rows of that which it has
        let pages = |s: usize| step.block_table.chunks(width.max(1)).nth(s).unwrap_or_default();
        let has = |s: usize, n: usize| len(s).saturating_sub(n as u32 * page_size).min(page_size);
        for s in (0..sequences).filter(|s| new(*s) > 0) {
            let first = len(s).saturating_sub(new(s));
            let written = (first / page_size) as usize..len(s).div_ceil(page_size) as usize;
            for (n, page) in pages(s).iter().enumerate().take(written.end).skip(written.start) {
                let from = first.saturating_sub(n as u32 * page_size);
                for t in (0..sequences).filter(|t| *t != s) {
                    let used = pages(t).get(..len(t).div_ceil(page_size) as usize).unwrap_or_default();
                    // most often it has none of the page: a search through all of its pages first, which is one of words
                    if !used.contains(page) {
                        continue;
                    }
                    if used.iter().enumerate().any(|(n, other)| other == page && has(t, n) > from) {
                        return Err(Error::input(
                            "block_table",
                            format!("new rows of sequence {s} go to page {page}, where sequence {t} has keys"),
                            "give it a page of its own: copy the shared one first",
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn write_mask(&self, mask: &Dense<bool>, words: &mut [u32]) {
        let keys = self.shape[2];
        let row_words = keys.div_ceil(32) as usize;
        words.fill(0);
        for (r, row) in words.chunks_exact_mut(row_words).enumerate() {
            for j in 0..keys as usize {
                let seen = if mask.shape[3] == 1 { mask.data[r] } else { mask.data[r * keys as usize + j] };
                row[j / 32] |= (seen as u32) << (j % 32);
            }
        }
    }
}

/// The tokens of a sequence; 0 where there is none.
fn length(starts: &[u32], sequence: usize) -> u32 {
    starts.get(sequence + 1).zip(starts.get(sequence)).map_or(0, |(end, start)| end.saturating_sub(*start))
}
