// Sequences of different lengths, one after the other in one batch entry: sequence s has the tokens cu[s]..cu[s + 1], in q
// and in k. Rows and keys count from the sequence's first.
fn q_length(batch: u32) -> u32 { return step[params.step_cu_q + batch + 1u] - step[params.step_cu_q + batch]; }
fn tensor_batch(batch: u32) -> u32 { return 0u; }
fn q_token(batch: u32, i: u32) -> u32 { return step[params.step_cu_q + batch] + i; }
fn k_token(batch: u32, j: u32) -> u32 { return step[params.step_cu_k + batch] + j; }
