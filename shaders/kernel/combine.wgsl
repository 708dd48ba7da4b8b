// combine: the parts of a row become the row. Runs after `main` of a decode kernel, over the same heads.
//
//   m <- max(sink, m_s),  l <- sink + sum exp(m_s - m) l_s,  o <- sum exp(m_s - m) o_s / l      over the splits s in their order
//
// The sink joins here and nowhere else, so it counts once. Splits that hold no key which some row sees left nothing and are not asked.
//
// grid       rows  x  kv heads  x  batch, offset by `chunk`
// workgroup  COMBINE_LANES lanes over the chunks of o

@compute @workgroup_size(COMBINE_LANES)
fn combine(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let packed = workgroup.x;
    let rows = q_length(batch) * params.group;
    if (packed >= rows) { return; }
    let i = packed / params.group;
    let head = kv_head * params.group + packed % params.group;
    let keys = key_range(batch, 0u, (rows - 1u) / params.group);
    let first = keys.x / params.split_keys;
    let end = select(first, (keys.y + params.split_keys - 1u) / params.split_keys, keys.x < keys.y);
    let part = part_at(batch, kv_head, first, packed);

    let sink = first_state(head);
    var m = sink.m;
    var is_row_nan = sink.nan;
    for (var split = first; split < end; split++) {
        let at = part + (split - first) * (ROWS * PART_WORDS) + 4u * V_CHUNKS;
        m = max(m, work[at]);
        is_row_nan = is_row_nan || work[at + 2u] != 0.0;
    }
    var l = sink.l * exp_of(sink.m - m);
    for (var split = first; split < end; split++) {
        let at = part + (split - first) * (ROWS * PART_WORDS) + 4u * V_CHUNKS;
        l += work[at + 1u] * exp_of(work[at] - m);
    }
    // some key was seen, or there is a sink; the largest weight is 1
    let any = l > 0.0;
    // a row with a poisoned score is NaN, whatever a driver's exp2 and comparisons made of it
    let nan = bitcast<f32>(0x7fc00000u | (lane & 0u));                     // not a constant: WGSL refuses a constant NaN
    let inv_l = select(select(0.0, 1.0 / l, any), nan, is_row_nan);
    let token = q_token(batch, i);
    let out_start = params.out_offset + tensor_batch(batch) * params.out_batch + token * params.out_token + head * params.out_head;
    for (var c = lane; c < v_chunks(); c += COMBINE_LANES) {
        var o = vec4<f32>(0.0);
        for (var split = first; split < end; split++) {
            let at = part + (split - first) * (ROWS * PART_WORDS);
            let word = at + 4u * c;
            o += vec4<f32>(work[word], work[word + 1u], work[word + 2u], work[word + 3u]) * exp_of(work[at + 4u * V_CHUNKS] - m);
        }
        put4(out_start, c, o * inv_l);
    }
    if (lane == 0u) {
        let row = (tensor_batch(batch) * params.num_heads + head) * params.q_capacity + token;
        work[params.lse_offset + row] = select(select(MASKED, m + log(l), any), nan, is_row_nan);
    }
}
