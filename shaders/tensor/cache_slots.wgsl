// The keys of a sequence lie behind each other in the pool, from the row that `step` names.
fn pool_row(batch: u32, j: u32) -> u32 { return min(step[params.step_cache + batch] + j, params.cache_rows - 1u); }
