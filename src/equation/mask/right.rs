//! Keys up to i', or some after it.

use crate::equation::mask::alignment::Alignment;
use crate::equation::mask::band::{Band, Text, reach};
use std::ops::Range;

/// j <= i' + window; causal is a window of 0.
pub(crate) struct Right {
    pub(crate) window: u32,
    pub(crate) causal: bool,
    pub(crate) alignment: Alignment,
}

impl Band for Right {
    fn field(&self) -> &'static str {
        if self.causal { "mask.causal" } else { "mask.window_right" }
    }
    fn label(&self) -> &'static str {
        match (self.causal, self.alignment) {
            (true, Alignment::BottomRight) => "causal",
            (true, Alignment::TopLeft) => "causal top-left",
            (false, _) => "window",
        }
    }
    fn keys(&self, at: i64) -> Range<i64> {
        i64::MIN..at + self.window as i64 + 1
    }
    fn causal(&self) -> bool {
        self.window == 0
    }
    fn text(&self) -> Text {
        let value = reach(self.window);
        Text { file: "equation/mask_right.wgsl", name: "right", constant: "WINDOW_RIGHT", value }
    }
}
