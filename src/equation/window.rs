//! Two-dimensional windows: where their tokens stand, and which of them belong together after a cyclic shift.

use crate::error::{Error, Result};

/// The most tokens that one call gives positions of.
pub(crate) const MAX_TOKENS: u64 = 1 << 30;

/// Refuses more tokens than [`MAX_TOKENS`], the product of `sizes`; beside a size of 0 the others are no less.
pub(crate) fn check_tokens(field: &str, sizes: &[u64]) -> Result<()> {
    match sizes.iter().try_fold(1u64, |n, size| n.checked_mul((*size).max(1))) {
        Some(n) if n <= MAX_TOKENS => Ok(()),
        _ => {
            let product = sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
            Err(Error::input(field, format!("asks for {product} tokens"), format!("give at most {MAX_TOKENS} in all")))
        }
    }
}

/// Positions of the tokens of a window or image, row by row, as [`Inputs`](crate::Inputs) takes them: `[2, batch, tokens]`, the rows
/// (stream 0), then the columns (stream 1). `class` puts a token at (-1, -1), outside the grid, in front of each.
///
/// ```
/// assert_eq!(ropewalk::grid_positions(1, 3, true, 1)?, [-1, 0, 0, 0, -1, 0, 1, 2]);
/// # Ok::<(), ropewalk::Error>(())
/// ```
///
/// # Errors
/// [`Error::Input`] for more than 2^30 tokens.
pub fn grid_positions(height: u32, width: u32, class: bool, batch: u32) -> Result<Vec<i32>> {
    let cells = height as u64 * width as u64;
    check_tokens("grid", &[cells.saturating_add(class.into()), batch.into()])?;
    let class = if class { 1 } else { 0 };
    // by cell: a side of 2^32 - 1 beside a side of 0 has none
    let cells = || (0..cells as u32).map(|cell| [cell / width, cell % width].map(|n| n as i32));
    let stream = |s: usize| {
        let tokens: Vec<i32> = std::iter::repeat_n(-1, class).chain(cells().map(|cell| cell[s])).collect();
        tokens.repeat(batch as usize)
    };
    Ok([stream(0), stream(1)].concat())
}

/// The segments of Swin's shifted windows (Liu et al. 2021, figure 4): which tokens of a window were neighbours before the cyclic
/// shift, `[windows, tokens of a window]`, windows and tokens row by row. Tokens of different segments get a bias of -100, a
/// [`Bias::Indexed`](crate::Bias::Indexed) over [`IndexMap::Segment`](crate::IndexMap::Segment) with the table rows 0 and -100.
///
/// `grid` is the image in tokens, padded to whole windows; every pair is (rows, columns). Errors name what does not fit.
///
/// ```
/// // a row of four tokens, windows of two, shifted by one: the last window holds both ends of the image
/// assert_eq!(ropewalk::swin_segments([1, 4], [1, 2], [0, 1])?, [0, 0, 1, 2]);
/// # Ok::<(), ropewalk::Error>(())
/// ```
pub fn swin_segments(grid: [u32; 2], window: [u32; 2], shift: [u32; 2]) -> Result<Vec<i32>> {
    for axis in 0..2 {
        let (n, w, s) = (grid[axis], window[axis], shift[axis]);
        if w == 0 || n == 0 || !n.is_multiple_of(w) || n > 1 << 15 {
            let help = "give whole windows, at most 32768 tokens a side: pad the image";
            return Err(Error::input("grid", format!("{n} tokens for windows of {w}"), help));
        }
        if s >= w {
            return Err(Error::input("shift", format!("{s} tokens for windows of {w}"), "give less than a window"));
        }
    }
    // after the shift: what stayed clear of the last window, what the last window had anyway, what came round
    let region = |at: u32, axis: usize| match (grid[axis], window[axis], shift[axis]) {
        (_, _, 0) => 0,
        (n, _, s) if at >= n - s => 2,
        (n, w, _) if at >= n - w => 1,
        _ => 0,
    };
    let (rows, columns) = (grid[0] / window[0], grid[1] / window[1]);
    let mut segments = Vec::new();
    for (y0, x0) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y * window[0], x * window[1]))) {
        for y in y0..y0 + window[0] {
            segments.extend((x0..x0 + window[1]).map(|x| 3 * region(y, 0) + region(x, 1)));
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::workload;
    use crate::inputs::embed::positions_from;

    #[test]
    fn what_no_memory_holds_is_refused_before_it_is_made() {
        for sides in [[u32::MAX; 3], [1 << 16, 1 << 16, 1], [1, 1, u32::MAX], [1 << 15, 1 << 15, 2]] {
            grid_positions(sides[0], sides[1], true, sides[2]).expect_err("too many tokens");
        }
        positions_from(u32::MAX, u32::MAX, 0, 0).expect_err("too many tokens");
        positions_from(2, 1 << 30, 0, 0).expect_err("too many tokens");
        // of no sequence too
        grid_positions(1 << 16, 1 << 16, false, 0).expect_err("too many tokens");
        positions_from(0, 1 << 31, 0, -1).expect_err("too many tokens");
        assert!(grid_positions(2, 0, false, 2).expect("none").is_empty());
        let mut workload = workload::named("p1").expect("p1");
        (workload.q_len, workload.kv_len) = (u32::MAX, 1);
        assert!(workload.inputs(1).expect_err("too long").to_string().contains("4294967295 queries"));
        workload.q_len = 2;
        assert_eq!(workload.inputs(1).expect("short").q.shape(), [1, 2, 8, 64]);
    }
}
