//! Chosen files and a preamble of constants -> one WGSL module. Plain concatenation: WGSL's declarations are
//! order-free, each file comes in once, and a compiler's line number maps back to the author's file.

use crate::shader::{dialect, files};
use std::fmt::Write;

/// Who compiles the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Target {
    /// naga, through wgpu.
    #[default]
    Native,
    /// Tint and other browser compilers: `enable` lines where a variant needs them: subgroups.
    Web,
}

/// The file that multiplies cooperative matrices.
const MATRICES: &str = "kernel/coop.wgsl";

/// A composed module and where its lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Composed {
    pub(crate) source: String,
    /// The same for [`Target::Web`], where that differs.
    pub(crate) web: Option<String>,
    /// First line (from 1) of every part, and its file.
    parts: Vec<(usize, &'static str)>,
}

impl Composed {
    /// `preamble` holds constants, bindings and the glue between slots; `texts` are the user's own, by name.
    pub(crate) fn new(preamble: &str, files: &[&'static str], texts: &[(&'static str, &str)]) -> Self {
        let mut source = preamble.to_string();
        let mut parts = vec![(1, "(preamble)")];
        let files = files.iter().map(|path| files::find(path).expect("plans name files of the table alone"));
        for (path, text) in files.map(|file| (file.path, file.text)).chain(texts.iter().copied()) {
            let _ = write!(source, "\n// ---- {path}\n");
            parts.push((source.lines().count() + 1, path));
            source.push_str(text);
            if !source.ends_with('\n') {
                source.push('\n');
            }
        }
        // naga's own dialect, which no browser knows; on the preamble's first line, so that line numbers stay
        if parts.iter().any(|(_, path)| *path == MATRICES) {
            source.insert_str(0, dialect::ENABLE);
        }
        // naga takes no such line, browsers demand it
        let subgroups = ["subgroup_invocation_id", "subgroupBroadcast"].iter().any(|word| source.contains(word));
        let web = subgroups.then(|| format!("enable subgroups; {source}"));
        Composed { source, web, parts }
    }

    /// Puts one line for another of as many lines, in the texts of all targets.
    pub(crate) fn replace(&mut self, before: &str, after: &str) {
        for text in [Some(&mut self.source), self.web.as_mut()].into_iter().flatten() {
            *text = text.replacen(before, after, 1);
        }
    }

    /// Whether lanes exchange within subgroups of one size.
    #[cfg(feature = "wgpu")]
    pub(crate) fn takes_subgroups(&self) -> bool {
        self.web.is_some()
    }
    /// Whether it multiplies cooperative matrices, in f16.
    #[cfg(feature = "wgpu")]
    pub(crate) fn takes_matrices(&self) -> bool {
        self.parts.iter().any(|(_, path)| *path == MATRICES)
    }

    /// The files that it is made of, the user's texts by their names.
    #[cfg(feature = "wgpu")]
    pub(crate) fn files(&self) -> Vec<&'static str> {
        self.parts.iter().map(|(_, path)| *path).filter(|path| *path != "(preamble)").collect()
    }

    /// The author's file and line of a line of the composed source.
    pub(crate) fn locate(&self, line: usize) -> (&'static str, usize) {
        let (first, path) = self.parts.iter().rev().find(|(first, _)| *first <= line).unwrap_or(&self.parts[0]);
        (path, line + 1 - first)
    }
}

/// An f32 literal.
pub(crate) fn wgsl_f32(x: f64) -> String {
    format!("{:e}f", x as f32)
}

/// An i32 literal; the least one has no literal of its own in WGSL.
pub(crate) fn wgsl_i32(x: i32) -> String {
    if x == i32::MIN { "(-2147483647 - 1)".into() } else { format!("{x}") }
}
