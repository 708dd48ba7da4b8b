// New rows are the query tokens of a sequence, and its last keys: kv_len counts them. Of more query tokens than keys the first are left out.
fn append_count(batch: u32) -> u32 { return min(q_length(batch), kv_length(batch)); }
fn append_query(batch: u32, n: u32) -> u32 { return q_length(batch) - append_count(batch) + n; }
fn append_key(batch: u32, n: u32) -> u32 { return kv_length(batch) - append_count(batch) + n; }
