//! What the uniforms hold, where values stand in `step`, and how large each binding is.

use crate::equation::rotary::phase;
use crate::equation::rotary::rotary::Angle;
use crate::equation::spec::{Positions, Spec};
use crate::error::{Error, Result};
use crate::inputs::cache::Cache;
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Strides;
use crate::plan::grid::{base_words, lse_words, padded};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::linear;
use crate::plan::linear::StateLayout;
use crate::plan::step::StepLayout;
use crate::plan::storage::storage_of;
use crate::plan::tables::TableLayout;
use crate::shader::layout::{CHUNK_STRIDE, HEAD_ENTRIES, MAX_PAIRS, Params, ROTARY_ENTRIES, Slot};
use std::ops::Range;

/// Every offset and stride of a shape that [`Shape::check`] has seen: in `params`, and in the caller's `step`.
pub(crate) fn assign_offsets(
    kernel: Kernel,
    spec: &Spec,
    shape: &Shape,
    source: Strides,
    target: Strides,
) -> Result<(Params, StepLayout)> {
    let [batch, q_len, kv_len] = [shape.batch, shape.q_len, shape.kv_len];
    let mut next = 8u64;
    let mut take = |wanted: bool, words: u64| -> Result<Option<Range<u32>>> {
        if !wanted {
            return Ok(None);
        }
        let start = next;
        next += words;
        match (u32::try_from(start), u32::try_from(next)) {
            (Ok(start), Ok(end)) => Ok(Some(start..end)),
            _ => Err(Error::limit("step", "more than 2^32 words", "use fewer sequences or broadcast the mask")),
        }
    };
    let ids = spec.positions == Positions::Ids;
    let streams = spec.position_streams();
    let (q_words, k_words) = (batch as u64 * q_len as u64, batch as u64 * kv_len as u64);
    let q_positions = take(ids, streams as u64 * q_words)?;
    let k_positions = take(ids, streams as u64 * k_words)?;
    let q_segments = take(spec.segments(), q_words)?;
    let k_segments = take(spec.segments(), k_words)?;
    let kv_lens = take(spec.kv_lens, batch as u64)?;
    let cu_seqlens_q = take(spec.packed, shape.sequences as u64 + 1)?;
    let cu_seqlens_k = take(spec.packed, shape.sequences as u64 + 1)?;
    let [sequences, _, keys] = shape.sequences(spec);
    let width = shape.cache.pages_of(keys);
    let slots = take(matches!(shape.cache, Cache::Slots { .. }), sequences as u64)?;
    let block_table = take(width > 0, sequences as u64 * width as u64)?;
    let row_words = kv_len.div_ceil(32);
    let [mask_b, mask_h, mask_i, _] = shape.mask;
    let mask = take(spec.mask.dense, [mask_b, mask_h, mask_i, row_words].iter().map(|d| *d as u64).product())?;
    let start = |r: &Option<Range<u32>>| r.as_ref().map_or(0, |r| r.start);
    // the stride of a dimension, 0 where it is broadcast or the tensor is not used
    let stride = |wanted: bool, d: u32, inner: [u32; 3]| {
        let stride = inner.iter().map(|d| *d as u64).product::<u64>();
        match wanted && d != 1 {
            true => u32::try_from(stride).map_err(|_| {
                Error::limit("shape", "a dense tensor of 2^32 elements or more", "broadcast it, or use fewer sequences")
            }),
            false => Ok(0),
        }
    };
    let (dense, bits) = (spec.dense_bias, spec.mask.dense);
    let [dense_b, dense_h, dense_i, dense_j] = shape.dense;
    let table_words = TableLayout::new(spec).words;
    let angle_words = angle_words(spec, shape);
    let (Ok(angle_cos), Ok(angle_sin)) = (u32::try_from(table_words), u32::try_from(table_words + angle_words)) else {
        return Err(Error::limit("tables", "more than 2^32 words", "use smaller bias or angle tables"));
    };
    let before = match kernel {
        Kernel::Linear => linear::decay_words(spec, shape),
        _ => dense_words(spec, shape) + shape.user_words as u64,
    };
    let gate_offset = u32::try_from(before)
        .map_err(|_| Error::limit("dense", "gates behind 2^32 words of bias", "broadcast the dense bias"))?;
    let cap = spec.logits_soft_cap.unwrap_or(1.0);
    let word = |words: u64| {
        u32::try_from(words).map_err(|_| Error::limit("work", "more than 2^32 words", "use fewer sequences"))
    };
    let [normalizer, maximum, state_offset] = match kernel {
        Kernel::Linear => {
            let state = StateLayout::new(spec, batch);
            [state.normalizer, state.maximum, 0]
        }
        _ => [0, 0, lse_words(spec, shape)],
    };
    let params = Params {
        q_capacity: q_len,
        kv_capacity: kv_len,
        num_heads: spec.num_heads,
        group: spec.group(),
        q_offset: 0,
        q_batch: source.batch,
        q_token: source.token,
        q_head: source.head,
        k_offset: 0,
        k_batch: shape.k.batch,
        k_token: shape.k.token,
        k_head: shape.k.head,
        v_offset: 0,
        v_batch: shape.v.batch,
        v_token: shape.v.token,
        v_head: shape.v.head,
        out_offset: 0,
        out_batch: target.batch,
        out_token: target.token,
        out_head: target.head,
        step_q_positions: start(&q_positions),
        step_k_positions: start(&k_positions),
        step_kv_lens: start(&kv_lens),
        step_mask: start(&mask),
        mask_batch: stride(bits, mask_b, [mask_h, mask_i, row_words])?,
        mask_head: stride(bits, mask_h, [mask_i, row_words, 1])?,
        mask_row: stride(bits, mask_i, [row_words, 1, 1])?,
        lse_offset: 0,
        dense_batch: stride(dense, dense_b, [dense_h, dense_i, dense_j])?,
        dense_head: stride(dense, dense_h, [dense_i, dense_j, 1])?,
        dense_row: stride(dense, dense_i, [dense_j, 1, 1])?,
        dense_key: stride(dense, dense_j, [1; 3])?,
        dense_offset: 0,
        angle_cos,
        angle_sin,
        state_offset: word(state_offset)?,
        softmax_scale: if kernel.rotates_only() { 1.0 } else { spec.scale() as f32 },
        soft_cap: cap as f32,
        inv_soft_cap: (1.0 / cap) as f32,
        splits: 0,
        head_chunks: spec.head_dim.div_ceil(4),
        v_chunks: spec.v_head_dim.div_ceil(4),
        pairs: spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 2),
        head_padded: padded(spec.head_dim),
        v_padded: padded(spec.v_head_dim),
        step_q_segments: start(&q_segments),
        step_k_segments: start(&k_segments),
        batches: batch,
        step_cu_q: start(&cu_seqlens_q),
        step_cu_k: start(&cu_seqlens_k),
        gate_offset,
        partials: 0,
        query_products: 0,
        key_products: 0,
        prepared_q: 0,
        prepared_k: 0,
        user_offset: u32::try_from(dense_words(spec, shape))
            .map_err(|_| Error::limit("dense", "more than 2^32 words before user_data", "broadcast the dense bias"))?,
        user_words: shape.user_words,
        first_batch: shape.first_batch,
        first_head: shape.first_head,
        feature_chunks: spec.features().div_ceil(4),
        normalizer: word(normalizer)?,
        maximum: word(maximum)?,
        split_keys: 0,
        new_k_offset: 0,
        new_k_batch: shape.new_k.batch,
        new_k_token: shape.new_k.token,
        new_k_head: shape.new_k.head,
        new_v_offset: 0,
        new_v_batch: shape.new_v.batch,
        new_v_token: shape.new_v.token,
        new_v_head: shape.new_v.head,
        max_seqlen_q: shape.max_seqlen_q,
        max_seqlen_k: shape.max_seqlen_k,
        step_cache: start(&slots) + start(&block_table),
        cache_rows: shape.cache.rows().unwrap_or(0),
        cache_pages: shape.cache.pages(),
        cache_width: width,
        sequences,
    };
    let words = next as u32;
    let shape3 = [batch, q_len, kv_len];
    let layout = StepLayout {
        words,
        q_positions,
        k_positions,
        q_segments,
        k_segments,
        kv_lens,
        cu_seqlens_q,
        cu_seqlens_k,
        slots,
        block_table,
        mask,
        cache: shape.cache,
        streams,
        mask_shape: shape.mask,
        shape: shape3,
        max_seqlens: [shape.max_seqlen_q, shape.max_seqlen_k],
        sequences,
        rows: None,
        appends: matches!(kernel, Kernel::Append { .. }),
    };
    Ok((params, layout))
}

/// Words of D; the user's stand behind it.
fn dense_words(spec: &Spec, shape: &Shape) -> u64 {
    if spec.dense_bias { shape.dense.iter().map(|n| *n as u64).product() } else { 0 }
}

/// Words of numbers of rows and keys behind them: gates, scales, sinks; the two of every key; A's own queries.
fn row_words(spec: &Spec, shape: &Shape) -> u64 {
    let planes = spec.row_planes().iter().filter(|p| **p).count() as u64;
    let keys = if spec.key_bias { 2 * shape.batch as u64 * spec.num_heads as u64 * shape.kv_len as u64 } else { 0 };
    (planes + spec.own_queries().unwrap_or(0) as u64) * lse_words(spec, shape) + keys
}

/// Words of cos, and of sin, in `tables`.
fn angle_words(spec: &Spec, shape: &Shape) -> u64 {
    let table = spec.rotary.as_ref().filter(|r| r.angle == Angle::Table);
    table.map_or(0, |r| shape.angle_rows as u64 * (r.rotary_dim as u64 / 2))
}

/// The bytes of a binding of so many elements. Shaders count elements (of what is no tensor, words) in 32 bits, and `bind` adds those before
/// the caller's first.
pub(crate) fn binding_size(slot: Slot, elements: u128, bytes: u64, limits: &Limits) -> Result<u64> {
    let size = elements * bytes as u128;
    let too_large = |problem: String| {
        let help = "request a larger limit, or call for fewer sequences, heads or tokens at a time";
        Err(Error::limit("max_storage_buffer_binding_size", problem, help))
    };
    if slot.is_storage() && size > limits.max_binding_size as u128 {
        return too_large(format!("{} takes {size} bytes of a binding's {}", slot.name(), limits.max_binding_size));
    }
    match u64::try_from(size) {
        Ok(size) if elements <= u32::MAX as u128 => Ok(size),
        _ => too_large(format!("{} takes {elements} elements, of which shaders index 2^32 - 1", slot.name())),
    }
}

/// Elements of a binding and the bytes of one; of `work` without scratch.
#[allow(clippy::too_many_arguments)] // one match on the slot, over everything that decides a size
pub(crate) fn binding_elements(
    slot: Slot,
    kernel: Kernel,
    spec: &Spec,
    shape: &Shape,
    source: Strides,
    target: Strides,
    step_words: u32,
    chunks: usize,
    carry: bool,
) -> (u128, u64) {
    let [batch, q_len, kv_len] = [shape.batch, shape.q_len, shape.kv_len];
    let dtype = storage_of(spec, kernel, slot).unwrap_or(spec.dtype);
    // of blocks their bytes, where elements have indices of 32 bits
    let stored = |elements: u128, dim: u32| match dtype.block(dim) {
        [1, bytes] => (elements, bytes as u64),
        _ if elements > u32::MAX as u128 => (elements, 1),
        [block, bytes] => (elements.div_ceil(block as u128) * bytes as u128, 1),
    };
    let tensor = |s: Strides, len: u32, heads: u32, dim: u32| stored(s.extent(batch, len, heads, dim), dim);
    let [pools, rows] = shape.rows_of_keys();
    let of_keys = |s: Strides, dim: u32| stored(s.extent(pools, rows, spec.num_kv_heads, dim), dim);
    let words = |words: u64| (words as u128, 4);
    let uniform = |bytes: usize| (bytes as u128, 1);
    let (tokens, heads) = match kernel {
        Kernel::RotateK { .. } => (kv_len, spec.num_kv_heads),
        _ => (q_len, spec.num_heads),
    };
    match slot {
        Slot::Q => tensor(source, tokens, heads, spec.head_dim),
        Slot::K => of_keys(shape.k, spec.head_dim),
        Slot::V => of_keys(shape.v, spec.v_head_dim),
        Slot::Out => match kernel {
            Kernel::Attention | Kernel::Linear | Kernel::Merge => tensor(target, tokens, heads, spec.v_head_dim),
            Kernel::Scores => words(lse_words(spec, shape) * kv_len as u64),
            Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. } | Kernel::Append { .. } => {
                tensor(target, tokens, heads, spec.head_dim)
            }
        },
        Slot::NewK | Slot::NewV => {
            let (s, dim) =
                if slot == Slot::NewK { (shape.new_k, spec.head_dim) } else { (shape.new_v, spec.v_head_dim) };
            (s.extent(batch, q_len, spec.num_kv_heads, dim), kernel.new_rows(spec).size() as u64)
        }
        Slot::Work if kernel == Kernel::Linear => words(StateLayout::new(spec, batch).words),
        Slot::Dense if kernel == Kernel::Linear => {
            let of_token = linear::decay_width(spec) + linear::beta_width(spec);
            words(batch as u64 * kv_len as u64 * spec.num_kv_heads as u64 * of_token)
        }
        Slot::Work => words(base_words(kernel, spec, shape, carry)),
        Slot::Tables => words(TableLayout::new(spec).words + 2 * angle_words(spec, shape)),
        Slot::Dense => words(dense_words(spec, shape) + shape.user_words as u64 + row_words(spec, shape)),
        Slot::Step => words(step_words as u64),
        Slot::Params => uniform(size_of::<Params>()),
        Slot::Chunk => uniform(chunks * CHUNK_STRIDE as usize),
        Slot::Rotary => uniform(16 * ROTARY_ENTRIES),
        Slot::Heads => uniform(16 * HEAD_ENTRIES),
    }
}

pub(crate) fn rotary_entries(spec: &Spec) -> Vec<[u32; 4]> {
    let mut entries = vec![[0; 4]; ROTARY_ENTRIES];
    if let Some(rotary) = &spec.rotary {
        let factor = (rotary.attention_factor as f32).to_bits();
        let frequencies = match rotary.angle {
            Angle::Table => vec![0.0; rotary.rotary_dim as usize / 2],
            // in `tables`
            _ if rotary.sums().is_some() => vec![0.0; rotary.rotary_dim as usize / 2],
            _ => rotary.inv_freq(),
        };
        for (entry, f) in entries.iter_mut().zip(frequencies) {
            let inc = phase::increment(f);
            *entry = [(inc >> 32) as u32, inc as u32, (f as f32).to_bits(), factor];
        }
        for (pair, entry) in entries.iter_mut().skip(MAX_PAIRS).take(rotary.rotary_dim as usize / 2).enumerate() {
            // the stream, its highest bit set where xPos grows; |log2 decay| as a 64-bit fraction; the centre
            entry[0] = rotary.stream(pair) as u32;
            if let Some(xpos) = &rotary.xpos {
                let power = xpos.log2_decay(pair, rotary.rotary_dim);
                let inc = (power.abs() * 2f64.powi(64)) as u64;
                entry[0] |= ((power > 0.0) as u32) << 31;
                [entry[1], entry[2], entry[3]] = [(inc >> 32) as u32, inc as u32, xpos.centre as u32];
            }
        }
    }
    entries
}

pub(crate) fn head_entries(spec: &Spec) -> Vec<[f32; 4]> {
    let mut entries = vec![[0.0; 4]; HEAD_ENTRIES];
    for (entry, slope) in entries.iter_mut().zip(spec.bias.iter().flat_map(|b| b.term().slopes(spec.num_heads))) {
        entry[0] = slope as f32;
    }
    if let Some(gammas) = spec.linear.as_ref().and_then(|l| l.gammas(spec.num_kv_heads)) {
        let of_heads = gammas.into_iter().flat_map(|g| std::iter::repeat_n(g, spec.group() as usize));
        entries.iter_mut().zip(of_heads).for_each(|(entry, gamma)| entry[0] = gamma as f32);
    }
    entries
}
