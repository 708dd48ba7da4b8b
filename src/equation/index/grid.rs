//! Two-dimensional windows: Swin, BEiT.

use crate::equation::index::map::{Argument, Expression, Map, Wrong, distance};

/// (dy + height - 1) * (2 * width - 1) + dx + width - 1; with a class token three more rows.
pub(crate) struct Grid {
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) class: bool,
}

/// The longest side of a window.
pub(crate) const MAX_SIDE: u32 = 1 << 11;

impl Map for Grid {
    fn name(&self) -> &'static str {
        "grid"
    }
    fn check(&self) -> Result<(), Wrong> {
        let Grid { height, width, .. } = *self;
        match (1..=MAX_SIDE).contains(&height) && (1..=MAX_SIDE).contains(&width) {
            true => Ok(()),
            false => Err((format!("a window of {height} x {width}"), "give sides from 1 to 2048")),
        }
    }
    fn rows(&self) -> u64 {
        let span = |n: u32| (2 * n as u64).saturating_sub(1);
        span(self.height).saturating_mul(span(self.width)).saturating_add(if self.class { 3 } else { 0 })
    }
    fn last_stream(&self) -> u8 {
        1
    }
    fn row(&self, m: [i32; 4], n: [i32; 4], _: bool) -> Option<u32> {
        let Grid { height, width, class } = *self;
        let plane = (2 * height - 1) * (2 * width - 1);
        match (class && m[0] < 0, class && n[0] < 0) {
            (true, false) => return Some(plane),
            (false, true) => return Some(plane + 1),
            (true, true) => return Some(plane + 2),
            (false, false) => {}
        }
        let side = |stream: usize, length: u32| {
            let length = length as i64;
            (-distance(m, n, stream)).clamp(1 - length, length - 1) + length - 1
        };
        Some((side(0, height) * (2 * width as i64 - 1) + side(1, width)) as u32)
    }
    fn expression(&self) -> Expression {
        Expression {
            files: vec!["equation/index_grid.wgsl", "equation/index_streams.wgsl", "equation/term_distance.wgsl"],
            function: if self.class { "index_grid_class" } else { "index_grid" },
            arguments: [String::from("at"), self.height.to_string(), self.width.to_string()].map(Argument::Text).into(),
        }
    }
}
