//! Pictures of systems and of measurements, as bytes.

pub mod data;
mod draw;
mod theme;

use data::Panel;
use ropewalk::{Error, Result};
use std::path::Path;
pub use theme::Theme;

/// The format that a file's ending asks for.
#[derive(Clone, Copy)]
pub enum Format {
    Svg,
    Png,
}

/// The file of a picture.
pub fn picture(panels: &[Panel], theme: Theme, format: Format) -> Result<Vec<u8>> {
    let drawn = match format {
        Format::Svg => draw::svg(panels, theme).map(String::into_bytes),
        Format::Png => draw::png(panels, theme),
    };
    drawn.map_err(|e| Error::device("drawing", e))
}

/// What the file of an option is to hold.
pub fn format(option: &str, out: &Path) -> Result<Format> {
    match out.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
        Some("svg") => Ok(Format::Svg),
        Some("png") => Ok(Format::Png),
        _ => Err(Error::input(
            format!("{option} {}", out.display()),
            "does not end in .svg or .png",
            "give the file one of these endings: it says which format is written",
        )),
    }
}
