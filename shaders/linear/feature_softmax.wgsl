// Positive random features of the softmax kernel (Choromanski et al. 2021), c = HEAD_DIM^-1/4, w the rows of `projection`:
//
//   phi_f(x) = FEATURES^-1/2 (exp(c w_f.x - c^2 |x|^2 / 2 - m) + FEATURE_EPS)
//
// m is the largest c w_f.x: of a query's own features, of all keys' (a pass of its own before the first time).
var<workgroup> x_tile: array<vec4<f32>, TILE_T * HEAD_CHUNKS>;
var<workgroup> row_offset: array<f32, TILE_T>;     // c^2 |x|^2 / 2 + m

fn prepare_times() -> u32 { return params.kv_capacity; }

// The largest c w_f.x of this dispatch's keys and those before.
fn prepare(place: Times, unit: u32, lane: u32) {
    var at = place;
    at.end = i32(end_key());
    let word = params.state_offset + params.maximum + unit;
    var most = -3e38;
    if (first_key() > 0u) { most = work[word]; }
    for (var first = first_key(); first < end_key(); first += TILE_T) {
        at.first = i32(first);
        workgroupBarrier();
        stage_x(at, lane, true);
        workgroupBarrier();
        for (var n = lane; n < TILE_T * FEATURE_CHUNKS; n += TILE_Q) {
            let t = n / FEATURE_CHUNKS;
            if (key_at(at, t) >= 0) {
                let p = projected(t, n % FEATURE_CHUNKS);
                most = max(largest(p), most);
            }
        }
    }
    workgroupBarrier();
    o_tile[lane] = most;
    workgroupBarrier();
    if (lane == 0u) {
        for (var l = 1u; l < TILE_Q; l++) { most = max(most, o_tile[l]); }
        work[word] = most;
    }
}

// x of keys or queries, rotated; and c^2 |x|^2 / 2.
fn stage_x(at: Times, lane: u32, keys: bool) {
    let t = lane;
    if (t >= TILE_T) { return; }
    var row: Row;
    let j = key_at(at, t);
    let i = query_at(at, t);
    if (keys && j >= 0) {
        let start = k_row(at.batch, u32(j), at.kv_head);
        for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(start, c); }
        rotate_row(&row, k_positions(at.batch, u32(j)), -1.0);
    }
    if (!keys && i >= 0) {
        let start = q_row(at.batch, u32(i), at.head);
        for (var c = 0u; c < head_chunks(); c++) { row[c] = q4(start, c); }
        rotate_row(&row, q_positions(at.batch, u32(i)), 1.0);
    }
    var squares = vec4<f32>(0.0);
    for (var c = 0u; c < head_chunks(); c++) {
        x_tile[t * HEAD_CHUNKS + c] = row[c];
        squares += row[c] * row[c];
    }
    row_offset[t] = 0.5 * FEATURE_SCALE * FEATURE_SCALE * ((squares.x + squares.y) + (squares.z + squares.w));
}

// c w_f.x of four features; -3e38 past the last.
fn projected(t: u32, c: u32) -> vec4<f32> {
    var p: vec4<f32>;
    for (var e = 0u; e < 4u; e++) {
        let f = 4u * c + e;
        p[e] = -3e38;
        if (f < FEATURES) {
            var sum = vec4<f32>(0.0);
            for (var d = 0u; d < head_chunks(); d++) {
                sum += table4(TABLE_PROJECTION + f * HEAD_DIM, d, HEAD_DIM) * x_tile[t * HEAD_CHUNKS + d];
            }
            p[e] = FEATURE_SCALE * ((sum.x + sum.y) + (sum.z + sum.w));
        }
    }
    return p;
}

// The largest of four that is no NaN, at least -3e38: NaN counts for nothing, whatever max makes of it.
fn largest(p: vec4<f32>) -> f32 {
    let x = select(p, vec4<f32>(-3e38), is_nan4(p));
    return max(max(max(x.x, x.y), max(x.z, x.w)), -3e38);
}

fn phi(p: vec4<f32>, t: u32, c: u32) -> vec4<f32> {
    let x = p - row_offset[t];
    let phi = FEATURE_RATIO * (exp2(max(x * 1.44269504, vec4<f32>(-200.0))) + FEATURE_EPS);
    let inside = 4u * c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(FEATURES);
    return select(vec4<f32>(0.0), select(phi, x, is_nan4(x)), inside);
}

fn stage_features(at: Times, unit: u32, lane: u32) {
    stage_x(at, lane, true);
    if (lane < TILE_T) { row_offset[lane] += work[params.state_offset + params.maximum + unit]; }
    workgroupBarrier();
    for (var n = lane; n < TILE_T * FEATURE_CHUNKS; n += TILE_Q) {
        let t = n / FEATURE_CHUNKS;
        let c = n % FEATURE_CHUNKS;
        var features = vec4<f32>(0.0);
        if (key_at(at, t) >= 0) { features = phi(projected(t, c), t, c); }
        k_tile[n] = features;
    }
    workgroupBarrier();
    stage_x(at, lane, false);
    workgroupBarrier();
    for (var n = lane; n < TILE_T * FEATURE_CHUNKS; n += TILE_Q) {
        var p = vec4<f32>(0.0);
        if (query_at(at, n / FEATURE_CHUNKS) >= 0) { p = projected(n / FEATURE_CHUNKS, n % FEATURE_CHUNKS); }
        q_tile[n] = p;
    }
    workgroupBarrier();
    if (lane < TILE_T) {
        var most = -3e38;
        for (var c = 0u; c < feature_chunks(); c++) { most = max(most, largest(q_tile[lane * FEATURE_CHUNKS + c])); }
        row_offset[lane] += most;
    }
    workgroupBarrier();
    for (var n = lane; n < TILE_T * FEATURE_CHUNKS; n += TILE_Q) {
        let t = n / FEATURE_CHUNKS;
        var features = vec4<f32>(0.0);
        if (query_at(at, t) >= 0) { features = phi(q_tile[n], t, n % FEATURE_CHUNKS); }
        q_tile[n] = features;
    }
}
