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
        // what rotates keys reads them as q
        Slot::Q if matches!(kernel, Kernel::RotateK { .. }) => Some(spec.k_storage()),
        Slot::Q => Some(spec.dtype),
        Slot::K => Some(spec.k_storage()),
        Slot::V => Some(spec.v_storage()),
        Slot::Out => match kernel {
            Kernel::Scores => None,
            Kernel::RotateK { .. } => Some(spec.k_storage()),
            Kernel::Attention | Kernel::Linear => Some(spec.out_storage()),
            Kernel::RotateQ { .. } | Kernel::Append { .. } | Kernel::Embed { .. } | Kernel::Merge => Some(spec.dtype),
        },
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
        (_, Some(dtype)) if dtype.in_blocks() => "u32".into(),
        // `append_blocks` writes words of either
        (Slot::K | Slot::V, _) if kernel.appends_blocks(spec) => "u32".into(),
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
        if dtype.in_blocks() {
            let _ = writeln!(
                lines,
                "fn {f}_place(row: u32, c: u32) -> vec3<u32> {{ return place_{storage}(row, c, {}); }}\n\
                 fn {f}_unpack(head: u32, high: u32, quants: u32, c: u32) -> vec4<f32> {{ return unpack_{storage}(head, high, quants, c); }}",
                if slot == Slot::V { "V_HEAD_DIM" } else { "HEAD_DIM" },
            );
            continue;
        }
        let is_written = kernel.writes(slot);
        if is_written && kernel.appends_blocks(spec) {
            continue; // `quantise_*` calls the files themselves
        }
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

/// The file that reads rows of k, or of v.
pub(crate) fn rows_file(spec: &Spec, kernel: Kernel, slot: Slot, aligned: bool) -> &'static str {
    let in_blocks = storage_of(spec, kernel, slot).is_some_and(Dtype::in_blocks);
    match (slot, in_blocks, aligned) {
        (Slot::V, true, _) => "tensor/v_blocks.wgsl",
        (Slot::V, false, true) => "tensor/v_aligned.wgsl",
        (Slot::V, false, false) => "tensor/v_unaligned.wgsl",
        (_, true, _) => "tensor/k_blocks.wgsl",
        (_, false, true) => "tensor/k_aligned.wgsl",
        (_, false, false) => "tensor/k_unaligned.wgsl",
    }
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
    /// Rows of k.
    pub(crate) fn keys(&mut self, aligned: bool) {
        self.add(rows_file(self.spec, self.kernel, Slot::K, aligned), &[Slot::K]);
    }
    /// Rows of v.
    pub(crate) fn value_rows(&mut self, aligned: bool) {
        self.add(rows_file(self.spec, self.kernel, Slot::V, aligned), &[Slot::V]);
    }
    /// The storage of the tensors that the chosen files use: the last choice of a plan.
    pub(crate) fn storage(&mut self, aligned: bool) {
        let (files, lines) = joined(self.spec, self.kernel, &self.slots, aligned);
        files.into_iter().for_each(|file| self.add(file, &[]));
        self.glue += &lines;
    }
}
