// scores: what the softmax receives, materialised; for checks, plots and engines that need the matrix.
//
//   S = cap(scale * R(m)Q (R(n)K)^T) + terms     where visible, else -inf
//
// grid       tiles of TILE_Q rows  x  kv heads  x  batch, offset by `chunk`, over the keys of `chunk`
// workgroup  TILE_Q lanes, one row each, packed as in `attention`
// shared     k_tile, at most 16 KiB
// out        u32 bits of f32, [batch, num_heads, q_capacity, kv_capacity]: bits, because WGSL has no infinity
//
// Tiles go over the rows of the tensor, so that whatever lies outside of a row's sequence is -inf too; a key's index counts
// from the sequence's first (modulo 2^32, where it lies before).

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let first_row = (chunk.tile + workgroup.x) * TILE_Q;
    let rows = q_length(batch) * params.group;
    if (first_row >= rows) { return; }                                     // the same for the whole workgroup
    let last_row = min(first_row + TILE_Q, rows) - 1u;
    let keys = key_range(batch, first_row / params.group, last_row / params.group);

    let row = min(first_row + lane, last_row);                             // spare lanes only help to rotate keys
    let stored = first_row + lane <= last_row;
    let i = row / params.group;
    let head = kv_head * params.group + row % params.group;
    var at = ScoreAt(batch, head, i, 0u, q_index(batch, i), q_position(batch, i), 0);
    var q_rotated: Row;
    load_q(&q_rotated, q_row(batch, i, head), at);
    var q_rows: QueryRows;
    load_query_rows(&q_rows, q_row(batch, i, head), at, row);
    let out_row = (tensor_batch(batch) * params.num_heads + head) * params.q_capacity + q_token(batch, i);
    let out_start = params.out_offset + out_row * params.kv_capacity;
    let sequence_start = k_token(batch, 0u);

    for (var first = first_key(); first < end_key(); first += TILE_K) {
        workgroupBarrier();
        stage_k(batch, kv_head, first - sequence_start, keys.y, lane);
        workgroupBarrier();
        for (var t = 0u; t < min(TILE_K, end_key() - first); t++) {
            at.j = first - sequence_start + t;
            var bits = 0xff800000u;
            if (stored && at.j < keys.y && visible(at)) {
                at.k_pos = k_position(batch, at.j);
                bits = bitcast<u32>(score(&q_rotated, &q_rows, t, at));
            }
            if (stored) { out[out_start + first + t] = bits; }
        }
    }
}
