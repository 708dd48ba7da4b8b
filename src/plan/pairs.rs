//! How many pairs of a query and a key the masks leave.

use crate::equation::mask::Alignment;
use crate::equation::spec::Spec;
use crate::inputs::shape::Shape;

/// Pairs that one head's masks leave of one batch entry.
pub(crate) fn pairs_of_head(spec: &Spec, shape: &Shape) -> u64 {
    if !spec.packed {
        return pairs(spec, shape.q_len, shape.kv_len);
    }
    let n = shape.sequences.max(1);
    let share = |len: u32, s: u32| len / n + (s < len % n) as u32;
    (0..n).map(|s| pairs(spec, share(shape.q_len, s), share(shape.kv_len, s))).sum()
}

fn pairs(spec: &Spec, q_len: u32, kv_len: u32) -> u64 {
    let mask = &spec.mask;
    let keys = kv_len as i64;
    if mask.bands().next().is_none() {
        return q_len as u64 * kv_len as u64;
    }
    let shift = match mask.alignment {
        Alignment::BottomRight => keys - q_len as i64,
        Alignment::TopLeft => 0,
    };
    let seen = |i: u32| {
        let seen = mask.keys(i as i64 + shift, 0..keys);
        (seen.end - seen.start).max(0) as u64
    };
    (0..q_len).map(seen).sum()
}
