// Every sequence has the keys between its start and the next one's.
fn kv_length(batch: u32) -> u32 {
    let start = k_token(batch, 0u);
    return min(max(min(step[params.step_cu_k + batch + 1u], params.kv_capacity), start) - start, params.max_seqlen_k);
}
