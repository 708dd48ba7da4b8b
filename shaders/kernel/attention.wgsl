// attention: rotation, scores, softmax and value sum in one pass; the score matrix never exists.
//
//   S = cap(scale * R(m)(NQ + u) (R(n)NK)^T) + terms     where visible
//   m = max S,  P = exp(S - m),  l = sum P,  O = P V / l,  lse = m + log l
//
// grid       tiles of TILE_Q rows  x  kv heads  x  batch, offset by `chunk`, over the keys of `chunk`
// workgroup  TILE_Q lanes, one row each: a row is one query head of one token; the heads that share a kv head are
//            packed into the same tile (row r: token r / group, head r % group), so each key is rotated once for all
// shared     k_tile, at most 16 KiB
// registers  q and o of one row, TILE_K scores
//
//   q <- scale * R(m)(N q + u)                       o, l, m <- the sink, or what an earlier dispatch left
//   for each tile of keys that some row of the workgroup can see
//       lane t: k_tile[t] <- R(n) N k                                           barrier on both sides
//       s[t] <- score, seen[t] <- visible                                       (1) by index
//       m' <- max(m, s);  o, l <- (o, l) * exp(m - m')                          (2) one rescale a tile
//       for each seen t:  p <- exp(s[t] - m');  l <- l + p;  o <- o + p * v[t]  (3) masked keys are skipped instead of multiplied
//   o / l, m + log l                                                                by a zero weight: a NaN in them cannot reach o
//   a row that saw nothing: 0, MASKED;  one with a poisoned score: NaN       (4) by bits

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let first_row = (chunk.tile + workgroup.x) * TILE_Q;
    let rows = q_length(batch) * params.group;
    if (first_row >= rows) { return; }                                     // the same for the whole workgroup
    let last_row = min(first_row + TILE_Q, rows) - 1u;
    let keys = chunk_keys(key_range(batch, first_row / params.group, last_row / params.group));

    let packed = min(first_row + lane, last_row);                          // spare lanes only help to rotate keys
    let stored = first_row + lane <= last_row;
    let i = packed / params.group;
    let head = kv_head * params.group + packed % params.group;
    let row = (tensor_batch(batch) * params.num_heads + head) * params.q_capacity + q_token(batch, i);
    var at = ScoreAt(batch, head, i, 0u, q_index(batch, i), q_position(batch, i), 0);
    var q_rotated: Row;
    load_q(&q_rotated, q_row(batch, i, head), at);
    var q_rows: QueryRows;
    load_query_rows(&q_rows, q_row(batch, i, head), at, packed);

    var o: OutRow;
    var state = first_state(head);
    resume(row, &o, &state);
    var s: array<f32, TILE_K>;

    for (var tile = keys.x / TILE_K; tile * TILE_K < keys.y; tile++) {
        let first = tile * TILE_K;
        workgroupBarrier();
        stage_k(batch, kv_head, first, keys.y, lane);
        stage_v(batch, kv_head, first, keys.y, lane);
        workgroupBarrier();

        // S
        var seen = 0u;
        var top = state.m;
        let count = min(TILE_K, keys.y - first);
        for (var t = 0u; t < count; t++) {
            at.j = first + t;
            if (stored && visible(at)) {
                at.k_pos = k_position(batch, at.j);
                s[t] = score(&q_rotated, &q_rows, t, at);
                state.nan = state.nan || poisoned(s[t]);
                seen |= 1u << t;
                if (s[t] > top) { top = s[t]; }
            }
        }

        if (seen != 0u) {
            // m, and what came before in its terms
            if (state.any && top != state.m) {
                let shrink = exp_of(state.m - top);
                state.l *= shrink;
                for (var c = 0u; c < v_padded(); c += 4u) {
                    o[c] *= shrink;
                    o[c + 1u] *= shrink;
                    o[c + 2u] *= shrink;
                    o[c + 3u] *= shrink;
                }
            }
            state.m = top;
            state.any = true;

            // P, l, O
            var l_tile = 0.0;
            for (var t = 0u; t < count; t++) {
                if (((seen >> t) & 1u) == 1u) {
                    let p = exp_of(s[t] - state.m);
                    l_tile += p;
                    let v_start = v_row(batch, first + t, kv_head);
                    for (var c = 0u; c < v_padded(); c += 4u) {
                        o[c] += p * value4(v_start, t, c);
                        o[c + 1u] += p * value4(v_start, t, c + 1u);
                        o[c + 2u] += p * value4(v_start, t, c + 2u);
                        o[c + 3u] += p * value4(v_start, t, c + 3u);
                    }
                    at.j = first + t;
                    add_value_terms(&o, p, at);
                }
            }
            state.l += l_tile;
        }
    }

    if (!stored || suspend(row, &o, &state)) { return; }
    turn_output(&o);
    // a row with a poisoned score is NaN, whatever a driver's exp2 and comparisons made of it
    let nan = bitcast<f32>(0x7fc00000u | (lane & 0u));                     // not a constant: WGSL refuses a constant NaN
    let inv_l = select(select(0.0, 1.0 / state.l, state.any), nan, state.nan);
    let out_start = params.out_offset + tensor_batch(batch) * params.out_batch + q_token(batch, i) * params.out_token + head * params.out_head;
    for (var c = 0u; c < v_chunks(); c++) { put4(out_start, c, o[c] * inv_l); }
    let lse = select(MASKED, state.m + log(state.l), state.any);
    work[params.lse_offset + row] = select(lse, nan, state.nan);
}
