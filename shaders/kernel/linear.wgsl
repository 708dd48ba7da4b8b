// linear: linear attention; a state instead of a score matrix, O(n d^2) work.
//
//   S_t = Gamma_t S_{t-1} + k_t^T v_t,  z_t = z_{t-1} + k_t        k, q: features, rotated; the normaliser's are not,
//   o_t = scale q_t S_t / (scale q_t z_t + eps)                    where rotation stands after the feature map
//   S_t = Gamma_t S_{t-1} + beta_t k_t^T (v_t - k_t Gamma_t S_{t-1})                 the delta rule, without a normaliser
//
// Time runs over tokens: key j stands at time j, query i at first_query() + i; a query sees the keys up to its own time. Causal
// attention has queries among the keys, bidirectional attention has them after all keys.
//
// grid       tiles of TILE_Q columns of v  x  query heads  x  batch, offset by `chunk`, over the times of `chunk`
// workgroup  TILE_Q lanes, one column of S each
// shared     features of TILE_T keys and queries, their outputs, at most 16 KiB
// registers  one column of S
// work       S (and z, and the stabiliser of keys) between dispatches; at the end the state to go on from
//
//   S, z <- 0, or what is given, or what an earlier dispatch left
//   for each tile of TILE_T times
//       k_tile, q_tile <- features of keys and queries, 0 where there is none       barriers on both sides
//       denominators of the tile's queries; z <- z + its keys
//       k_tile, q_tile <- rotated, if rotation stands after the features
//       for each time t:  S <- Gamma_t S + k_t v_t, or by the delta rule;  o_t <- q_t S   one lane, one column
//       out <- scale o / denominator

var<workgroup> k_tile: array<vec4<f32>, TILE_T * FEATURE_CHUNKS>;
var<workgroup> q_tile: array<vec4<f32>, TILE_T * FEATURE_CHUNKS>;
var<workgroup> o_tile: array<f32, TILE_T * TILE_Q>;

// A tile of times: what stands where.
struct Times {
    batch: u32,
    head: u32,
    kv_head: u32,
    first: i32,     // the time of slot 0
    keys: i32,      // kv_len
    queries: i32,   // q_len
    offset: i32,    // the time of query 0
    end: i32,       // one past the last time of this dispatch
}
fn key_at(at: Times, t: u32) -> i32 {
    let j = at.first + i32(t);
    return select(-1, j, j >= 0 && j < at.keys && j < at.end);
}
fn query_at(at: Times, t: u32) -> i32 {
    let i = at.first + i32(t) - at.offset;
    return select(-1, i, i >= 0 && i < at.queries && at.first + i32(t) < at.end);
}

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let head = chunk.kv_head + workgroup.y;
    let column_tile = chunk.tile + workgroup.x;
    let unit = (batch * params.num_heads + head) * V_TILES + column_tile;
    let offset = first_query(batch);
    var at = Times(batch, head, head / params.group, 0, i32(kv_length(batch)), i32(q_length(batch)), offset, 0);
    if (first_key() < prepare_times()) {                                   // uniform: the whole dispatch
        prepare(at, unit, lane);
        return;
    }
    let start = min(0, offset) - i32(prepare_times());
    at.end = start + i32(end_key());

    let column = min(column_tile * TILE_Q + lane, V_HEAD_DIM - 1u);            // spare lanes repeat the last column
    let stored = column_tile * TILE_Q + lane < V_HEAD_DIM;
    var s: array<vec4<f32>, FEATURE_CHUNKS>;
    let fresh = first_key() == prepare_times() && starts_empty();
    let state = params.state_offset + (batch * params.num_heads + head) * FEATURES * V_HEAD_DIM + column;
    for (var c = 0u; c < feature_chunks(); c++) {
        if (fresh) {
            s[c] = vec4<f32>(0.0);
        } else {
            s[c] = vec4<f32>(state_or_0(state, 4u * c), state_or_0(state, 4u * c + 1u), state_or_0(state, 4u * c + 2u), state_or_0(state, 4u * c + 3u));
        }
    }
    resume_normalizer(unit, fresh, lane);

    for (var first = first_key(); first < end_key(); first += TILE_T) {
        at.first = start + i32(first);
        workgroupBarrier();
        stage_features(at, unit, lane);
        stage_decay(at, lane);
        stage_update(at, lane);
        workgroupBarrier();
        normalize_tile(at, lane);
        rotate_tile(at, lane);

        for (var t = 0u; t < TILE_T; t++) {
            let j = key_at(at, t);
            if (j >= 0) {
                let v = v4(v_row(batch, u32(j), at.kv_head), column >> 2u)[column & 3u];
                update(&s, t, v);
            }
            if (query_at(at, t) >= 0) {
                var sum = vec4<f32>(0.0);
                for (var c = 0u; c < feature_chunks(); c++) { sum += q_tile[t * FEATURE_CHUNKS + c] * s[c]; }
                o_tile[t * TILE_Q + lane] = normalized(params.softmax_scale * ((sum.x + sum.y) + (sum.z + sum.w)), t);
            }
        }
        workgroupBarrier();

        // four columns of a time each
        for (var n = lane; n < TILE_T * (TILE_Q / 4u); n += TILE_Q) {
            let t = n / (TILE_Q / 4u);
            let c = n % (TILE_Q / 4u);
            let i = query_at(at, t);
            let chunk_of_row = column_tile * (TILE_Q / 4u) + c;
            if (i >= 0 && chunk_of_row < V_CHUNKS) {
                let o = t * TILE_Q + 4u * c;
                let out_start = params.out_offset + tensor_batch(batch) * params.out_batch
                    + q_token(batch, u32(i)) * params.out_token + head * params.out_head;
                put4(out_start, chunk_of_row, vec4<f32>(o_tile[o], o_tile[o + 1u], o_tile[o + 2u], o_tile[o + 3u]));
            }
        }
    }

    if (stored) {
        for (var c = 0u; c < feature_chunks(); c++) {
            for (var e = 0u; e < min(4u, FEATURES - 4u * c); e++) { work[state + (4u * c + e) * V_HEAD_DIM] = s[c][e]; }
        }
    }
    suspend_normalizer(unit, lane);
}

// S of a feature, [FEATURES, V_HEAD_DIM] a head.
fn state_or_0(start: u32, feature: u32) -> f32 {
    if (feature >= FEATURES) { return 0.0; }
    return work[start + feature * V_HEAD_DIM];
}

fn q_row(batch: u32, i: u32, head: u32) -> u32 {
    return params.q_offset + tensor_batch(batch) * params.q_batch + q_token(batch, i) * params.q_token + head * params.q_head;
}

// exp(x), x <= 88, in base 2. Below e^-138 it is 0 in f32. A NaN stays one: max may drop it.
fn exp_of(x: f32) -> f32 { return select(exp2(max(x * LOG2_E, -200.0)), x, is_nan(x)); }
