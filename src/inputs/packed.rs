//! Sequences of different lengths that lie one after the other in one batch entry (FlashAttention's varlen form).
//!
//! `cu_seqlens` holds the first token of every sequence and one past the last: sequence s has the tokens
//! `cu_seqlens[s]..cu_seqlens[s + 1]`. It starts at 0 and ends at the number of tokens, so that every row belongs to a
//! sequence; equal neighbours are a sequence without tokens.

use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::inputs::Inputs;
use std::ops::Range;

/// Where the sequences of q and of k lie, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing<'a> {
    q: &'a [u32],
    k: &'a [u32],
}

impl<'a> Packing<'a> {
    /// Of inputs with so many tokens; none where the spec is not packed.
    pub(crate) fn new(spec: &Spec, inputs: &'a Inputs, total_q: u32, total_kv: u32) -> Result<Option<Self>> {
        let given = |name: &str, starts: &'a Option<Vec<u32>>| match (starts, spec.packed) {
            (Some(starts), true) => Ok(Some(starts.as_slice())),
            (None, false) => Ok(None),
            (Some(_), false) => {
                Err(Error::input(name, "is given, but the spec does not use it", "set spec.packed, or leave it out"))
            }
            (None, true) => Err(Error::input(name, "is missing", FORM)),
        };
        let (q, k) = (given("cu_seqlens_q", &inputs.cu_seqlens_q)?, given("cu_seqlens_k", &inputs.cu_seqlens_k)?);
        let Some((q, k)) = q.zip(k) else { return Ok(None) };
        check(q, k, total_q, total_kv)?;
        if inputs.kv_len.is_some() {
            return Err(Error::input("kv_len", "is given beside cu_seqlens_k", "leave it out: cu_seqlens_k says it"));
        }
        let batch = inputs.q.shape()[0];
        if batch != 1 {
            return Err(Error::input(
                "q",
                format!("has {batch} batch entries"),
                "packed sequences lie one after the other in one: give [1, total_q, heads, dim]",
            ));
        }
        Ok(Some(Packing { q, k }))
    }
    /// How many sequences there are.
    pub(crate) fn sequences(&self) -> u32 {
        lengths(self.q).count() as u32
    }
    /// The most query tokens of a sequence, and the most key tokens.
    pub(crate) fn longest(&self) -> [u32; 2] {
        [self.q, self.k].map(|starts| lengths(starts).max().unwrap_or(0))
    }
    /// The tokens of every sequence, in q and in k.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Range<u32>, Range<u32>)> + use<'a> {
        spans(self.q).zip(spans(self.k))
    }
    /// The query tokens and the key tokens of the sequence that a query token belongs to.
    pub(crate) fn of_query(&self, token: u32) -> (Range<u32>, Range<u32>) {
        let sequence = holder(self.q, token);
        (span(self.q, sequence), span(self.k, sequence))
    }
    /// The sequence that a query token belongs to.
    pub(crate) fn sequence(&self, token: u32) -> u32 {
        holder(self.q, token) as u32
    }
    /// The first key token of the sequence that a key token belongs to.
    pub(crate) fn start_of_key(&self, token: u32) -> u32 {
        span(self.k, holder(self.k, token)).start
    }
}

const FORM: &str = "give [sequences + 1]: the first token of every sequence, then the number of tokens";

fn spans(starts: &[u32]) -> impl Iterator<Item = Range<u32>> + use<'_> {
    starts.iter().zip(starts.iter().skip(1)).map(|(start, end)| *start..*end)
}

pub(crate) fn lengths(starts: &[u32]) -> impl Iterator<Item = u32> + use<'_> {
    spans(starts).map(|s| s.end.saturating_sub(s.start))
}

fn span(starts: &[u32], sequence: usize) -> Range<u32> {
    let at = |i: usize| starts.get(i).copied().unwrap_or(0);
    at(sequence)..at(sequence + 1)
}

/// The sequence of a token: the last that starts at or before it, since those without tokens end where they start.
fn holder(starts: &[u32], token: u32) -> usize {
    starts.partition_point(|start| *start <= token).saturating_sub(1)
}

/// Both lists, for so many tokens of q and of k; the error names the entry.
pub(crate) fn check(q: &[u32], k: &[u32], total_q: u32, total_kv: u32) -> Result<()> {
    for (name, starts, total) in [("cu_seqlens_q", q, total_q), ("cu_seqlens_k", k, total_kv)] {
        let wrong = |problem: String, help: &str| Err(Error::input(name, problem, help));
        let Some((last, rest)) = starts.split_last().filter(|(_, rest)| !rest.is_empty()) else {
            return wrong(format!("{} entries", starts.len()), FORM);
        };
        if let Some(first) = rest.first().filter(|first| **first != 0) {
            return wrong(format!("entry 0 is {first}"), "let it be 0: every token belongs to a sequence");
        }
        if let Some((i, start)) = starts.iter().enumerate().find(|(_, start)| **start > total) {
            return wrong(format!("entry {i} is {start}, of {total} tokens"), "give at most the number of tokens");
        }
        if let Some(i) = spans(starts).position(|s| s.start > s.end) {
            let s = span(starts, i);
            return wrong(
                format!("entry {} is {}, below entry {i}, {}", i + 1, s.end, s.start),
                "let no entry be below the one before: an empty sequence repeats it",
            );
        }
        if *last != total {
            return wrong(
                format!("the last entry, {}, is {last}, of {total} tokens", rest.len()),
                "let it be the number of tokens: every token belongs to a sequence",
            );
        }
    }
    if q.len() != k.len() {
        return Err(Error::input(
            "cu_seqlens_k",
            format!("{} entries, but cu_seqlens_q has {}", k.len(), q.len()),
            "give both for the same sequences",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_belong_to_the_sequence_that_holds_them() {
        let packing = Packing { q: &[0, 0, 3, 3, 5, 5], k: &[0, 2, 2, 4, 9, 9] };
        assert_eq!(packing.sequences(), 5);
        assert_eq!(packing.longest(), [3, 5]);
        let of = |i| packing.of_query(i);
        assert_eq!([of(0), of(2)], [(0..3, 2..2), (0..3, 2..2)]);
        assert_eq!([of(3), of(4)], [(3..5, 4..9), (3..5, 4..9)]);
        let starts: Vec<u32> = (0..9).map(|j| packing.start_of_key(j)).collect();
        assert_eq!(starts, [0, 0, 2, 2, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn errors_name_the_entry() {
        let error = |q: &[u32], k: &[u32]| check(q, k, 5, 9).unwrap_err().to_string();
        let good = ([0, 3, 5], [0, 0, 9]);
        assert!(check(&good.0, &good.1, 5, 9).is_ok());
        for (q, k, part) in [
            (&[0, 3, 4][..], &[0, 0, 9][..], "cu_seqlens_q: the last entry, 2, is 4, of 5 tokens"),
            (&[1, 3, 5], &[0, 0, 9], "cu_seqlens_q: entry 0 is 1"),
            (&[0, 3, 5], &[0, 9, 8, 9], "cu_seqlens_k: entry 2 is 8, below entry 1, 9"),
            (&[0, 3, 5], &[0, 12, 9], "cu_seqlens_k: entry 1 is 12, of 9 tokens"),
            (&[0, 3, 5], &[0, 9], "cu_seqlens_k: 2 entries, but cu_seqlens_q has 3"),
            (&[5], &[0, 9], "cu_seqlens_q: 1 entries"),
            (&[0, 5], &[], "cu_seqlens_k: 0 entries"),
        ] {
            assert!(error(q, k).contains(part), "{} lacks {part}", error(q, k));
        }
    }
}
