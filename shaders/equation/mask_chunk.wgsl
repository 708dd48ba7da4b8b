// floor(j / MASK_CHUNK) = floor(i' / MASK_CHUNK): i' and j in the same chunk. i' < 0 stands before all of them.
fn same_chunk_visible(at: ScoreAt) -> bool {
    return at.q_index >= 0 && at.q_index / MASK_CHUNK == i32(at.j) / MASK_CHUNK;
}
// The keys of the chunks of i' = first to last.
fn same_chunk_keys(range: vec2<i32>, first: i32, last: i32) -> vec2<i32> {
    if (last < 0) { return vec2<i32>(range.x, 0); }
    let low = max(first, 0) / MASK_CHUNK * MASK_CHUNK;
    let high = last / MASK_CHUNK * MASK_CHUNK + MASK_CHUNK;
    return vec2<i32>(max(range.x, low), min(range.y, high));
}
// The keys of a range that all rows from i' = first to last see: those of their chunk, if it is one.
fn same_chunk_full(range: vec2<i32>, first: i32, last: i32) -> vec2<i32> {
    if (first < 0 || first / MASK_CHUNK != last / MASK_CHUNK) { return vec2<i32>(0, 0); }
    let low = first / MASK_CHUNK * MASK_CHUNK;
    return vec2<i32>(max(range.x, low), min(range.y, low + MASK_CHUNK));
}
