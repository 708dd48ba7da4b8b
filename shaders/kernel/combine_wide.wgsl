// combine: as combine.wgsl, the parts of a row become the row, with all lanes, COMBINED parts on their way to each of them. In a fixed order.
//
// grid       rows  x  kv heads  x  batch, offset by `chunk`
// workgroup  LANES lanes: COLUMNS neighbours take the columns of a part
// shared     lane_tile: weights of at most MAX_SPLITS parts, then l of the lanes

const COMBINED: u32 = 16u;

@compute @workgroup_size(LANES)
fn combine(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    hide_steps();
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let packed = workgroup.x;
    let rows = q_length(batch) * params.group;
    if (packed >= rows) { return; }                                        // the same for the whole workgroup
    let i = packed / params.group;
    let head = kv_head * params.group + packed % params.group;
    let keys = key_range(batch, 0u, (rows - 1u) / params.group);
    let first = keys.x / params.split_keys;
    let end = select(first, (keys.y + params.split_keys - 1u) / params.split_keys, keys.x < keys.y);
    let count = min(end - first, MAX_SPLITS);
    let part = part_at(batch, kv_head, first, packed) / 4u;                // in vec4
    let stride = ROWS * PART_WORDS / 4u;

    // m
    let sink = first_state(head);
    var own = vec4<f32>(sink.m, 0.0, select(0.0, 1.0, sink.nan), 0.0);
    for (var n = lane; n < count; n += LANES) {
        let x = part_word4(part + n * stride + V_CHUNKS);
        own = vec4<f32>(max(own.x, x.x), 0.0, max(own.z, x.z), 0.0);
    }
    lane_tile[lane] = own;
    workgroupBarrier();
    for (var n = lane % 8u; n < LANES; n += 8u) { own = max(own, lane_tile[n]); }
    fold_tile[lane] = own;
    workgroupBarrier();
    for (var n = 0u; n < steps(8u); n++) { own = max(own, fold_tile[n]); }
    let m = own.x;
    let is_row_nan = own.z != 0.0;

    // weights, l
    var l_own = 0.0;
    for (var n = lane; n < count; n += LANES) {
        let x = part_word4(part + n * stride + V_CHUNKS);
        let w = exp_of(x.x - m);
        lane_tile[n] = vec4<f32>(w);
        l_own += w * x.y;
    }
    lane_tile[MAX_SPLITS + lane] = vec4<f32>(l_own);
    workgroupBarrier();
    var l_eighth = 0.0;
    for (var n = lane % 8u; n < LANES; n += 8u) { l_eighth += lane_tile[MAX_SPLITS + n].x; }
    fold_tile[lane] = vec4<f32>(l_eighth);
    workgroupBarrier();
    var l = sink.l * exp_of(sink.m - m);
    for (var n = 0u; n < steps(8u); n++) { l += fold_tile[n].x; }

    // o
    let c = min(lane % COLUMNS, V_CHUNKS - 1u);
    var o = vec4<f32>(0.0);
    for (var start = lane / COLUMNS; start < count; start += COMBINED * KEY_LANES) {
        var x: array<vec4<f32>, COMBINED>;
        for (var n = 0u; n < steps(COMBINED); n++) { x[n] = part_word4(part + min(start + n * KEY_LANES, count - 1u) * stride + c); }
        for (var n = 0u; n < steps(COMBINED); n++) {
            let at = start + n * KEY_LANES;
            o = select(o, fma(x[n], vec4<f32>(lane_tile[min(at, count - 1u)].x), o), vec4<bool>(at < count));
        }
    }
    workgroupBarrier();
    lane_tile[lane] = o;
    workgroupBarrier();
    // some key was seen, or there is a sink; the largest weight is 1
    let any = l > 0.0;
    // a row with a poisoned score is NaN, whatever a driver's exp2 and comparisons made of it
    let nan = bitcast<f32>(0x7fc00000u | (lane & 0u));                     // not a constant: WGSL refuses a constant NaN
    let inv_l = select(select(0.0, 1.0 / l, any), nan, is_row_nan);
    let token = q_token(batch, i);
    if (lane < V_CHUNKS) {
        var sum = lane_tile[lane];
        for (var n = 1u; n < KEY_LANES; n++) { sum += lane_tile[n * COLUMNS + lane]; }
        let out_start = params.out_offset + tensor_batch(batch) * params.out_batch + token * params.out_token + head * params.out_head;
        put4(out_start, lane, sum * inv_l);
    }
    if (lane == 0u) {
        let row = (tensor_batch(batch) * params.num_heads + head) * params.q_capacity + token;
        work[params.lse_offset + row] = select(select(MASKED, m + log(l), any), nan, is_row_nan);
    }
}

// A whole vec4 of `work`, whose lse this entry point writes by words.
fn part_word4(at: u32) -> vec4<f32> { return vec4<f32>(work[4u * at], work[4u * at + 1u], work[4u * at + 2u], work[4u * at + 3u]); }
