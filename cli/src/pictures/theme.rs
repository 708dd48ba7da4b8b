//! Colours of the pictures: two plain backgrounds, curves and maps that colour-blind people tell apart.

use plotters::prelude::{DerivedColorMap, RGBColor};

/// The background that a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "program", derive(clap::ValueEnum))]
pub enum Theme {
    Light,
    Dark,
}

/// The colours of one theme.
pub struct Colours {
    pub background: RGBColor,
    pub text: RGBColor,
    /// Axis labels, ticks, marks.
    pub quiet: RGBColor,
    pub grid: RGBColor,
    /// Of curves, told apart by lightness too; dashes repeat them.
    pub lines: [RGBColor; 8],
    signed: &'static [RGBColor],
}

const fn rgb(hex: u32) -> RGBColor {
    RGBColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// Viridis: lightness grows evenly from end to end.
const SEQUENTIAL: [RGBColor; 11] = [
    rgb(0x440154),
    rgb(0x482475),
    rgb(0x414487),
    rgb(0x355f8d),
    rgb(0x2a788e),
    rgb(0x21918c),
    rgb(0x22a884),
    rgb(0x44bf70),
    rgb(0x7ad151),
    rgb(0xbddf26),
    rgb(0xfde725),
];

/// Blue below 0, red above, white at 0.
const SIGNED_LIGHT: [RGBColor; 9] = [
    rgb(0x053061),
    rgb(0x2166ac),
    rgb(0x4393c3),
    rgb(0xa7d0e4),
    rgb(0xf7f7f7),
    rgb(0xfbc9ae),
    rgb(0xd6604d),
    rgb(0xb2182b),
    rgb(0x67001f),
];

/// Blue below 0, orange above, the background at 0.
const SIGNED_DARK: [RGBColor; 9] = [
    rgb(0xb3d7ff),
    rgb(0x6cb2f5),
    rgb(0x3580c4),
    rgb(0x1f4a73),
    rgb(0x11161d),
    rgb(0x6b3414),
    rgb(0xbb5a1d),
    rgb(0xf28e4b),
    rgb(0xffd2ab),
];

impl Theme {
    pub fn colours(self) -> Colours {
        match self {
            Theme::Light => Colours {
                background: rgb(0xffffff),
                text: rgb(0x1f2328),
                quiet: rgb(0x59636e),
                grid: rgb(0xdde3e9),
                // Okabe and Ito's, the light ones darkened
                lines: [0x1f2328, 0xd55e00, 0x0072b2, 0x009e73, 0xb5478c, 0x3aa0e0, 0xc28a00, 0x7a5c3e].map(rgb),
                signed: &SIGNED_LIGHT,
            },
            Theme::Dark => Colours {
                background: rgb(0x0d1117),
                text: rgb(0xe6edf3),
                quiet: rgb(0x9198a1),
                grid: rgb(0x262c36),
                lines: [0xe6edf3, 0xff8a3d, 0x56b4e9, 0x2fc79a, 0xe58fc4, 0x8fb0ff, 0xf0d442, 0xb99b7c].map(rgb),
                signed: &SIGNED_DARK,
            },
        }
    }
}

impl Colours {
    /// The colours of a matrix.
    pub fn map(&self, signed: bool) -> DerivedColorMap<RGBColor> {
        DerivedColorMap::new(if signed { self.signed } else { &SEQUENTIAL })
    }
}
