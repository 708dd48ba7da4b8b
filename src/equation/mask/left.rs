//! Keys from some before i' on.

use crate::equation::mask::band::{Band, Text, reach};
use std::ops::Range;

/// i' - window <= j.
pub(crate) struct Left {
    pub(crate) window: u32,
}

impl Band for Left {
    fn field(&self) -> &'static str {
        "mask.window_left"
    }
    fn label(&self) -> &'static str {
        "window"
    }
    fn keys(&self, at: i64) -> Range<i64> {
        at - self.window as i64..i64::MAX
    }
    fn text(&self) -> Text {
        let value = reach(self.window);
        Text { file: "equation/mask_left.wgsl", name: "left", constant: "WINDOW_LEFT", value }
    }
}
