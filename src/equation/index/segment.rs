//! Segments of XLNet.

use crate::equation::index::map::{Argument, Expression, Map, Wrong};

/// 0 for tokens of the same segment, 1 for others.
pub(crate) struct Segment;

impl Map for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
    fn rows(&self) -> u64 {
        2
    }
    fn segments(&self) -> bool {
        true
    }
    fn row(&self, _: [i32; 4], _: [i32; 4], same_segment: bool) -> Option<u32> {
        Some(!same_segment as u32)
    }
    fn expression(&self) -> Expression {
        let arguments = vec![Argument::text("at")];
        Expression { files: vec!["equation/index_segment.wgsl"], function: "index_segment", arguments }
    }
}
