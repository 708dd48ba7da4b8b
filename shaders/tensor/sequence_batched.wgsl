// One sequence a batch entry, q_len the same for all.
fn q_length(batch: u32) -> u32 { return min(step[0], params.q_capacity); }
// Where the tokens of a sequence stand in the tensors.
fn tensor_batch(batch: u32) -> u32 { return batch; }
fn q_token(batch: u32, i: u32) -> u32 { return i; }
fn k_token(batch: u32, j: u32) -> u32 { return j; }
