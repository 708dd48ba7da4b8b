//! Two-dimensional windows: where their tokens stand, and which of them belong together after a cyclic shift.

use crate::{Error, Result};

/// Positions of the tokens of a window or image, row by row, as [`Inputs`](crate::Inputs) takes them: `[2, batch, tokens]`, the rows
/// (stream 0), then the columns (stream 1). `class` puts a token at (-1, -1), outside the grid, in front of each. Empty for more than 2^30
/// tokens of all sequences, which no call takes.
///
/// ```
/// assert_eq!(ropewalk::grid_positions(1, 3, true, 1), [-1, 0, 0, 0, -1, 0, 1, 2]);
/// ```
pub fn grid_positions(height: u32, width: u32, class: bool, batch: u32) -> Vec<i32> {
    let class = if class { 1 } else { 0 };
    let tokens = height as u128 * width as u128 + class as u128;
    if tokens * batch as u128 > 1 << 30 {
        return Vec::new();
    }
    let cells = || (0..height as i32).flat_map(|y| (0..width as i32).map(move |x| [y, x]));
    let stream = |s: usize| {
        let tokens: Vec<i32> = std::iter::repeat_n(-1, class).chain(cells().map(|cell| cell[s])).collect();
        tokens.repeat(batch as usize)
    };
    [stream(0), stream(1)].concat()
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
