//! Caches whose sequences lie anywhere in one pool of rows: slots, and pages with a block table.
//!
//! A key of a sequence keeps its number, j from 0, and everything but k and v goes by that: positions, masks, D. Only where the rows of k and v
//! stand is said here. So attention over a pool is attention over the rows that it names, gathered: this is what the reference computes.

use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::inputs::{Inputs, MAX_ELEMENTS, MAX_LEN, at_most};
use crate::inputs::packed;

/// How k and v lie in memory: what a plan is made for. In a pool k and v are `[1, rows, num_kv_heads, dim]`; its sequences are packed ones
/// (`spec.packed`), one query token each or more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cache {
    /// A tensor: key j of a sequence is its token j.
    #[default]
    Contiguous,
    /// A pool; the keys of a sequence lie behind each other, from a row that the step names.
    Slots {
        /// Rows of the pool.
        rows: u32,
    },
    /// A pool of pages; the step names the pages of a sequence, in the order of its keys. Sequences may share pages.
    Pages {
        /// Pages of the pool.
        pages: u32,
        /// Rows of a page, 1 or more.
        page_size: u32,
    },
}

impl Cache {
    /// Rows of the pool; none of a tensor.
    pub fn rows(&self) -> Option<u32> {
        match *self {
            Cache::Contiguous => None,
            Cache::Slots { rows } => Some(rows),
            Cache::Pages { pages, page_size } => Some(pages.saturating_mul(page_size)),
        }
    }
    /// Pages that so many keys take: the width of the block table; 0 without pages.
    pub fn pages_of(&self, keys: u32) -> u32 {
        match *self {
            Cache::Pages { page_size, .. } => keys.div_ceil(page_size.max(1)),
            _ => 0,
        }
    }
    /// Pages of the pool; 0 without pages.
    pub(crate) fn pages(&self) -> u32 {
        match *self {
            Cache::Pages { pages, .. } => pages,
            _ => 0,
        }
    }
    /// What a plan's label says of it, with a dot before it.
    pub(crate) fn label(&self) -> String {
        match *self {
            Cache::Contiguous => String::new(),
            Cache::Slots { .. } => ".slots".into(),
            Cache::Pages { page_size, .. } => format!(".pages{page_size}"),
        }
    }
    /// Whether `n` keys of a sequence from a multiple of n on lie behind each other.
    pub(crate) fn runs(&self, n: u32) -> bool {
        match *self {
            Cache::Contiguous | Cache::Slots { .. } => true,
            Cache::Pages { page_size, .. } => page_size.is_multiple_of(n.max(1)),
        }
    }
    pub(crate) fn check(&self, spec: &Spec) -> Result<()> {
        let wrong =
            |field: &str, n: u32, help: &str| Err(Error::spec(format!("shape.cache.{field}"), n.to_string(), help));
        match *self {
            Cache::Contiguous => Ok(()),
            _ if !spec.packed => {
                Err(Error::spec("shape.cache", format!("{self:?} without packed sequences"), NEEDS_PACKED))
            }
            Cache::Slots { rows } if rows == 0 || rows > MAX_LEN => wrong("rows", rows, "give 1 to 2^30"),
            Cache::Pages { page_size: 0, .. } => wrong("page_size", 0, "give 1 or more"),
            Cache::Pages { pages, page_size } if pages == 0 || pages as u64 * page_size as u64 > MAX_LEN as u64 => {
                wrong("pages", pages, "give 1 or more, of at most 2^30 rows together")
            }
            _ => Ok(()),
        }
    }
}

/// Where the keys of every sequence of one call stand in the pool that k and v are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// `[sequences]`: the row of a sequence's first key.
    Slots(Vec<u32>),
    /// Rows of a page, and `[sequences, pages of a sequence]`: its pages in order; those that its keys do not reach are not read.
    Pages {
        /// Rows of a page.
        page_size: u32,
        /// The block table, row-major.
        table: Vec<u32>,
    },
}

const NEEDS_PACKED: &str = "set spec.packed: cu_seqlens_q and cu_seqlens_k say how long the sequences of a pool are";

/// A [`Placement`] by reference, as a step has it too.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    Slots(&'a [u32]),
    Pages { page_size: u32, width: usize, table: &'a [u32] },
}

impl Rows<'_> {
    /// The row of key j of a sequence, which has it.
    fn row(&self, sequence: usize, j: u32) -> u32 {
        match *self {
            Rows::Slots(starts) => starts.get(sequence).map_or(0, |start| start + j),
            Rows::Pages { page_size, width, table } => {
                let page = table.get(sequence * width + (j / page_size) as usize);
                page.map_or(0, |page| page * page_size + j % page_size)
            }
        }
    }

    /// Whether every key of sequences of these lengths is a row of the pool, and no two slots overlap.
    pub(crate) fn check(&self, cache: Cache, sequences: usize, len: impl Fn(usize) -> u32) -> Result<()> {
        let wrong = |name: &str, problem: String, help: &str| Err(Error::input(name, problem, help));
        match (*self, cache) {
            (Rows::Slots(starts), Cache::Slots { rows }) => {
                if starts.len() != sequences {
                    let problem = format!("{} of {sequences} sequences", starts.len());
                    return wrong("slots", problem, "give the first row of every sequence");
                }
                let span = |(s, start): (usize, &u32)| (s, *start as u64, *start as u64 + len(s) as u64);
                let spans = || starts.iter().enumerate().map(span).filter(|(_, start, end)| start < end);
                if let Some((s, start, end)) = spans().find(|(_, _, end)| *end > rows as u64) {
                    let problem = format!("sequence {s} has rows {start} to {} of a pool of {rows}", end - 1);
                    return wrong("slots", problem, "let every sequence end in the pool");
                }
                let overlap = |(s, start, end): (usize, u64, u64)| {
                    let later = |(t, first, last): &(usize, u64, u64)| *t > s && *first < end && start < *last;
                    spans().find(later).map(|(t, ..)| (s, t))
                };
                match spans().find_map(overlap) {
                    Some((s, t)) => wrong(
                        "slots",
                        format!("sequences {s} and {t} overlap"),
                        "give each rows of its own; pages can be shared",
                    ),
                    None => Ok(()),
                }
            }
            (Rows::Pages { page_size, width, table }, Cache::Pages { pages, .. }) => {
                if table.len() != sequences * width {
                    let problem = format!("{} pages for {sequences} sequences", table.len());
                    return wrong("block_table", problem, "give [sequences, pages of a sequence]");
                }
                for s in 0..sequences {
                    let used = len(s).div_ceil(page_size) as usize;
                    if used > width {
                        let problem = format!("sequence {s} has {} keys and {width} pages of {page_size}", len(s));
                        return wrong("block_table", problem, "name a page for every key");
                    }
                    let of_sequence = table.iter().skip(s * width).take(used);
                    if let Some((n, page)) = of_sequence.enumerate().find(|(_, page)| **page >= pages) {
                        let problem = format!("page {n} of sequence {s} is {page}, of a pool of {pages}");
                        return wrong("block_table", problem, "name pages of the pool");
                    }
                }
                Ok(())
            }
            (Rows::Slots(_), _) => wrong("slots", format!("given for {cache:?}"), "give what shape.cache asks for"),
            (Rows::Pages { .. }, _) => {
                wrong("block_table", format!("given for {cache:?}"), "give what shape.cache asks for")
            }
        }
    }
}

impl Placement {
    /// The cache of a pool of so many rows.
    pub(crate) fn cache(&self, rows: u32) -> Cache {
        match self {
            Placement::Slots(_) => Cache::Slots { rows },
            Placement::Pages { page_size, .. } => {
                Cache::Pages { pages: rows / (*page_size).max(1), page_size: *page_size }
            }
        }
    }
    pub(crate) fn rows(&self, sequences: usize) -> Rows<'_> {
        match self {
            Placement::Slots(starts) => Rows::Slots(starts),
            Placement::Pages { page_size, table } => {
                Rows::Pages { page_size: *page_size, width: table.len() / sequences.max(1), table }
            }
        }
    }
}

impl Inputs {
    /// The same call over tensors: of `placement`, if there is one, the rows that it names, in the order of keys.
    ///
    /// # Errors
    /// A placement that does not fit the lengths of the sequences, or the pool; the error names it.
    pub fn gathered(&self, spec: &Spec) -> Result<Inputs> {
        let Some(placement) = &self.placement else { return Ok(self.clone()) };
        let [pools, rows, ..] = self.k.shape();
        if pools != 1 || self.v.shape()[..2] != [pools, rows] {
            let problem = format!("[batch, len, heads, dim] = {:?}, of v {:?}", self.k.shape(), self.v.shape());
            return Err(Error::input("k", problem, "let a pool be [1, rows, num_kv_heads, dim], of k and v alike"));
        }
        let cache = placement.cache(rows);
        cache.check(spec)?;
        let Some(starts) = self.cu_seqlens_k.as_ref().filter(|_| spec.packed) else {
            return Err(Error::input("placement", "is given without cu_seqlens_k", NEEDS_PACKED));
        };
        let total = starts.last().copied().unwrap_or(0);
        packed::check(self.cu_seqlens_q.as_deref().unwrap_or_default(), starts, self.q.shape()[1], total)?;
        let [_, _, heads, dim] = self.k.shape();
        at_most("elements of key rows", [1, total, heads, dim.max(self.v.shape()[3])], MAX_ELEMENTS)?;
        let lens: Vec<u32> = packed::lengths(starts).collect();
        let rows = placement.rows(lens.len());
        rows.check(cache, lens.len(), |s| lens.get(s).copied().unwrap_or(0))?;
        let keys: Vec<u32> =
            lens.iter().enumerate().flat_map(|(s, len)| (0..*len).map(move |j| rows.row(s, j))).collect();
        let mut inputs = self.clone();
        inputs.placement = None;
        (inputs.k, inputs.v) = (self.k.taken(&keys)?, self.v.taken(&keys)?);
        Ok(inputs)
    }
}
