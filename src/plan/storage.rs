//! How the elements of q, k, v and out are stored. Each of the four has a storage type of its own, a file of `shaders/tensor/storage_*` whose
//! names end with the type's. The lines written here join these names to those that the files of a tensor call.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::plan::kernel::Kernel;
use crate::plan::slots::ShaderFiles;
use crate::shader::layout::Slot;
use std::fmt::Write;

/// The storage type of a slot: the one place that says it. None: the slot holds words.
pub(crate) fn storage_of(spec: &Spec, kernel: Kernel, slot: Slot) -> Option<Dtype> {
    match slot {
        Slot::Q | Slot::K | Slot::V => Some(spec.dtype),
        Slot::Out if kernel != Kernel::Scores => Some(spec.dtype),
        Slot::NewK | Slot::NewV => Some(kernel.new_rows(spec)),
        _ => None,
    }
}

/// What begins the names of a tensor's types; its functions begin with the slot's name.
fn prefix(slot: Slot) -> &'static str {
    match slot {
        Slot::Q => "Q",
        Slot::K => "K",
        Slot::V => "V",
        Slot::NewK => "NewK",
        Slot::NewV => "NewV",
        _ => "Out",
    }
}

/// The element type of a slot's binding: four elements of an aligned tensor, else the word that one lies in. Rows of `out` may share a word.
pub(crate) fn element(spec: &Spec, kernel: Kernel, slot: Slot, aligned: bool) -> String {
    match (slot, storage_of(spec, kernel, slot)) {
        (_, None) => "u32".into(),
        (_, Some(dtype)) if kernel.writes(slot) && !aligned && dtype.shares_words() => "atomic<u32>".into(),
        _ => format!("{}Raw{}", prefix(slot), if aligned { 4 } else { 1 }),
    }
}

/// The storage files of a module and the lines that join them to its tensors.
pub(crate) fn joined(spec: &Spec, kernel: Kernel, slots: &[Slot], aligned: bool) -> (Vec<&'static str>, String) {
    let (mut files, mut lines) = (Vec::new(), String::from("// How each tensor is stored.\n"));
    for slot in [Slot::Q, Slot::K, Slot::V, Slot::Out, Slot::NewK, Slot::NewV] {
        let Some(dtype) = storage_of(spec, kernel, slot).filter(|_| slots.contains(&slot)) else { continue };
        if !files.contains(&dtype.storage_file()) {
            files.push(dtype.storage_file());
        }
        let (ty, f, storage) = (prefix(slot), slot.name(), dtype.name());
        let is_written = kernel.writes(slot);
        let is_read = !is_written || kernel.in_place();
        // the files that write f32 that is not aligned take elements as they are
        let by_words = !is_written || dtype.shares_words();
        let width = if aligned { 4 } else { 1 };
        let _ = writeln!(lines, "alias {ty}Raw{width} = Raw{width}_{storage};");
        let mut join = |function: &str, parameters: &str, result: &str, arguments: &str| {
            let _ = writeln!(
                lines,
                "fn {f}_{function}({parameters}) -> {result} {{ return {function}_{storage}({arguments}); }}"
            );
        };
        if aligned && is_read {
            join("unpack4", &format!("raw: {ty}Raw4"), "vec4<f32>", "raw");
        }
        if aligned && is_written {
            join("pack4", "x: vec4<f32>", &format!("{ty}Raw4"), "x");
        }
        if !aligned && by_words {
            join("word_of", "element: u32", "u32", "element");
        }
        if !aligned && by_words && is_read {
            join("unpack1", &format!("raw: {ty}Raw1, element: u32"), "f32", "raw, element");
        }
        if !aligned && by_words && is_written {
            join("narrow", "x: f32", "u32", "x");
        }
    }
    (files, lines)
}

/// The file that writes rows of `out`.
pub(crate) fn out_file(aligned: bool, shares_words: bool) -> &'static str {
    match (aligned, shares_words) {
        (true, _) => "tensor/out_aligned.wgsl",
        (false, false) => "tensor/out_f32_unaligned.wgsl",
        (false, true) => "tensor/out_16_unaligned.wgsl",
    }
}

/// The file that reads rows of q, in place those of `out`.
pub(crate) fn source_file(in_place: bool, aligned: bool, shares_words: bool) -> &'static str {
    match (in_place, aligned, shares_words) {
        (false, true, _) => "tensor/q_aligned.wgsl",
        (false, false, _) => "tensor/q_unaligned.wgsl",
        (true, true, _) => "tensor/q_in_place_aligned.wgsl",
        (true, false, false) => "tensor/q_in_place_f32_unaligned.wgsl",
        (true, false, true) => "tensor/q_in_place_16_unaligned.wgsl",
    }
}

impl ShaderFiles<'_> {
    /// The storage of the tensors that the chosen files use: the last choice of a plan.
    pub(crate) fn storage(&mut self, aligned: bool) {
        let (files, lines) = joined(self.spec, self.kernel, &self.slots, aligned);
        files.into_iter().for_each(|file| self.add(file, &[]));
        self.glue += &lines;
    }
}
