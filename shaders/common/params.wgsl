// Facts of the plan that do not change the shader's text. Strides and offsets count elements.
struct Params {
    q_capacity: u32, kv_capacity: u32, num_heads: u32, group: u32,          // group = num_heads / num_kv_heads
    q_offset: u32, q_batch: u32, q_token: u32, q_head: u32,
    k_offset: u32, k_batch: u32, k_token: u32, k_head: u32,
    v_offset: u32, v_batch: u32, v_token: u32, v_head: u32,
    out_offset: u32, out_batch: u32, out_token: u32, out_head: u32,
    step_q_positions: u32, step_k_positions: u32, step_kv_lens: u32, step_mask: u32,  // words in `step`
    mask_batch: u32, mask_head: u32, mask_row: u32, lse_offset: u32,                 // words of mask bits; words in `work`
    dense_batch: u32, dense_head: u32, dense_row: u32, dense_key: u32,
    dense_offset: u32, angle_cos: u32, angle_sin: u32, state_offset: u32,            // words in `dense`, `tables`, `work`
    softmax_scale: f32, soft_cap: f32, inv_soft_cap: f32, splits: u32,      // parts that keys are split into
    head_chunks: u32, v_chunks: u32, pairs: u32, head_padded: u32,
    v_padded: u32,                                                 // what the constants of these names are
    step_q_segments: u32, step_k_segments: u32, batches: u32,      // words in `step`; sequences of the tensors
    step_cu_q: u32, step_cu_k: u32, gate_offset: u32, partials: u32,
    query_products: u32, key_products: u32, prepared_q: u32, prepared_k: u32,  // words in `work`, as partials
    user_offset: u32, user_words: u32, first_batch: u32, first_head: u32,    // words in `dense`; where a part of a problem begins
    feature_chunks: u32, normalizer: u32, maximum: u32, split_keys: u32,    // linear: a constant; words from state_offset; keys of a split
    new_k_offset: u32, new_k_batch: u32, new_k_token: u32, new_k_head: u32,
    new_v_offset: u32, new_v_batch: u32, new_v_token: u32, new_v_head: u32,
    max_seqlen_q: u32, max_seqlen_k: u32,                          // of packed sequences, which the last word counts
    step_cache: u32, cache_rows: u32, cache_pages: u32, cache_width: u32, sequences: u32,    // words in `step`: slots, a block table of this width; of the pool
}

// Which part of the grid this dispatch covers.
struct Chunk { tile: u32, kv_head: u32, batch: u32, first_key: u32, end_key: u32, tiles: u32, kv_heads: u32 }

// 0, in a way that no compiler knows: x^3 - x is even, whatever stands in `step`. lavapipe of Mesa 22 compiles a shader anew, at every
// dispatch, for the values of uniforms that alone decide a loop or a branch.
fn unseen_zero() -> u32 {
    let x = step[0];
    return (x * (x * x - 1u)) & 1u;
}
fn first_key() -> u32 { return chunk.first_key + unseen_zero(); }
fn end_key() -> u32 { return chunk.end_key + unseen_zero(); }

// The keys of a range that this dispatch covers.
fn chunk_keys(range: vec2<u32>) -> vec2<u32> {
    let low = max(range.x, first_key());
    return vec2<u32>(low, max(low, min(range.y, end_key())));
}

// `step` begins with these words, written by the caller for every step.
fn shared_kv_length() -> u32 { return min(step[1], params.kv_capacity); }
