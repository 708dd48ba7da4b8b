// Products of four rows of queries with a tile of keys as they are, four keys of a lane at once; a column is a key.
fn lane_scores(q_start: u32, batch: u32, kv_head: u32, first: u32, end: u32, lane: u32) -> mat4x4<f32> {
    let k0 = lane_k_row(batch, kv_head, min(first + lane, end - 1u));
    let k1 = lane_k_row(batch, kv_head, min(first + LANES + lane, end - 1u));
    let k2 = lane_k_row(batch, kv_head, min(first + 2u * LANES + lane, end - 1u));
    let k3 = lane_k_row(batch, kv_head, min(first + 3u * LANES + lane, end - 1u));
    var s = mat4x4<f32>();
    for (var c = 0u; c < head_padded(); c += 2u) {
        let q = padded_q(q_start, c + (lane & 1u));
        s += of_lane_0(q) * mat4x4<f32>(padded_k(k0, c), padded_k(k1, c), padded_k(k2, c), padded_k(k3, c));
        s += of_lane_1(q) * mat4x4<f32>(padded_k(k0, c + 1u), padded_k(k1, c + 1u), padded_k(k2, c + 1u), padded_k(k3, c + 1u));
    }
    return s;
}
fn padded_k(row: u32, c: u32) -> vec4<f32> {
    if (HEAD_PADDED == HEAD_CHUNKS) { return lane_k4(row, c); }
    return select(vec4<f32>(0.0), lane_k4(row, min(c, HEAD_CHUNKS - 1u)), c < HEAD_CHUNKS);
}
