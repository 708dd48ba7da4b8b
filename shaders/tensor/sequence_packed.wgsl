// Sequences of different lengths, one after the other in one batch entry: sequence s has the tokens cu[s]..cu[s + 1], in q
// and in k. Rows and keys count from the sequence's first. Whatever stands in `step`, tokens are those of the tensors.
fn q_start(batch: u32) -> u32 { return min(step[params.step_cu_q + batch], params.q_capacity); }
fn q_length(batch: u32) -> u32 {
    let start = q_start(batch);
    return min(max(min(step[params.step_cu_q + batch + 1u], params.q_capacity), start) - start, params.max_seqlen_q);
}
fn tensor_batch(batch: u32) -> u32 { return 0u; }
fn q_token(batch: u32, i: u32) -> u32 { return q_start(batch) + i; }
fn k_token(batch: u32, j: u32) -> u32 { return min(step[params.step_cu_k + batch], params.kv_capacity) + j; }
