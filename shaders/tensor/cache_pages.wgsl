// The keys of a sequence lie in pages of the pool, which `step` names in their order.
fn pool_row(batch: u32, j: u32) -> u32 {
    let entry = params.step_cache + batch * params.cache_width + j / PAGE_SIZE;
    return min(step[entry], params.cache_pages - 1u) * PAGE_SIZE + j % PAGE_SIZE;
}
