// coop: attention as two matrix products on cooperative matrices (f16 x f16 + f32, MATRIX rows and columns). naga's dialect, Vulkan and
// Metal only; no browser compiler knows it.
//
// grid       tiles of TILE_Q rows (as in attention.wgsl: the heads that share a kv head are packed)  x  kv heads  x  batch
// workgroup  LANES lanes. For the products its subgroups take blocks of MATRIX x MATRIX in turn; between them PARTS = LANES / TILE_Q
//            neighbouring lanes share a row and divide its keys, then its columns
// shared     q_half   R(m)(N q + u), rounded to f16                                        2 TILE_Q (HEAD_DIM + 8) bytes
//            kv_half  R(n) N k of the tile, rounded to f16; then its values, which are f16   2 TILE_K KV_STRIDE
//            s_tile   S in f32                                                             4 TILE_Q (TILE_K + 4)
//            p_half   2^14 P, rounded to f16                                               2 TILE_Q (TILE_K + 8)
//            o_tile   2^14 O in f32                                                        4 TILE_Q (V_HEAD_DIM + 4)
// registers  m, a share of l
//
//   o, m, l <- nothing, or the sink;  q_half
//   for each tile of TILE_K keys that some row of the workgroup can see
//       kv_half <- R(n) N k                                                                barrier B
//       s_tile <- Q K^T                                        (matrices)                   barrier C, behind the stores
//       kv_half <- V;  s_tile <- scores, masked by index; a share of m'                     barrier D
//       p_half <- 2^14 exp(S - m');  l <- l exp(m - m') + sum P;  o_tile <- o exp(m - m')   barrier E
//       o_tile <- o_tile + P V                                 (matrices)                   barrier F, behind the stores
//   o / l, m + log l
//
// No matrix lives across a barrier or a round of a loop: drivers have been seen to double such sums. The products of a block are
// unrolled in the text (`coop_scores`, `coop_values`, which the plan writes). The scale is applied to S, not to q: unscaled queries stay
// clear of f16's subnormals, and 2^14 P does for every weight above 2^-28.
//
// A weight of 0 does not hide a value that is not finite. Such values are staged as 0, and `stray` says so: the rows that see them get
// them when they are stored.

const PARTS: u32 = LANES / TILE_Q;
const Q_STRIDE: u32 = HEAD_DIM + 8u;                  // rows of 16 bytes more than a power of two: other banks
const KV_STRIDE: u32 = (4u * max(HEAD_CHUNKS, V_CHUNKS)) + 8u;
const S_STRIDE: u32 = TILE_K + 4u;
const P_STRIDE: u32 = TILE_K + 8u;
const O_STRIDE: u32 = V_HEAD_DIM + 4u;
const P_UNIT: f32 = 16384.0;

var<workgroup> q_half: array<f16, TILE_Q * Q_STRIDE>;
var<workgroup> kv_half: array<f16, TILE_K * KV_STRIDE>;
var<workgroup> s_tile: array<f32, TILE_Q * S_STRIDE>;
var<workgroup> p_half: array<f16, TILE_Q * P_STRIDE>;
var<workgroup> o_tile: array<f32, TILE_Q * O_STRIDE>;
var<workgroup> of_lane: array<f32, LANES>;            // shares of a row's maximum, then of its l; -1 of a row with a poisoned score
var<workgroup> stray: atomic<u32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32,
) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let first_row = (chunk.tile + workgroup.x) * TILE_Q;
    let rows = q_length(batch) * params.group;
    if (first_row >= rows) { return; }                                     // the same for the whole workgroup
    let keys = key_range(batch, first_row / params.group, (min(first_row + TILE_Q, rows) - 1u) / params.group);

    let part = lane % PARTS;
    let r = lane / PARTS;
    var at = coop_row(batch, kv_head, first_row + r, rows);
    let scale = params.softmax_scale * query_scale(at.head, at.q_pos);
    let start = first_state(at.head);
    var m = start.m;
    var l = select(0.0, start.l, part == 0u);                              // a sink counts once
    var nan = start.nan;

    if (lane == 0u) { atomicStore(&stray, 0u); }
    for (var c = part; c < V_HEAD_DIM; c += PARTS) { o_tile[r * O_STRIDE + c] = 0.0; }
    if (lane < TILE_Q) { coop_stage_q(coop_row(batch, kv_head, first_row + lane, rows), lane); }

    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        let count = min(TILE_K, keys.y - first);
        coop_stage_k(batch, kv_head, first, count, lane);
        workgroupBarrier();                                                // B
        for (var b = subgroup; b < TILE_Q / MATRIX * (TILE_K / MATRIX); b += subgroups) {
            let row = b / (TILE_K / MATRIX) * MATRIX;
            let key = b % (TILE_K / MATRIX) * MATRIX;
            coopStoreT(coop_scores(row * Q_STRIDE, key * KV_STRIDE), &s_tile[row * S_STRIDE + key], S_STRIDE);
        }
        workgroupBarrier();                                                // C
        coop_stage_v(batch, kv_head, first, count, lane);

        // the share of a row that this lane has
        var top = m;
        for (var t = part; t < TILE_K; t += PARTS) {
            let here = r * S_STRIDE + t;
            at.j = first + min(t, count - 1u);
            at.k_pos = k_position(batch, at.j);
            let seen = t < count && visible(at);
            let s = coop_score(s_tile[here] * scale, at);
            let unknown = poisoned(s);
            nan = nan || (seen && unknown);
            let x = select(select(max(s, SCORE_FLOOR), SCORE_FLOOR, unknown), MASKED, !seen);
            s_tile[here] = x;
            top = max(top, x);
        }
        of_lane[lane] = top;
        workgroupBarrier();                                                // D

        for (var n = 0u; n < PARTS; n++) { top = max(top, of_lane[r * PARTS + n]); }
        let shrink = exp_of(m - top);
        m = top;
        var sum = 0.0;
        for (var t = part; t < TILE_K; t += PARTS) {
            let s = s_tile[r * S_STRIDE + t];
            let p = select(exp_of(max(s, SCORE_FLOOR) - m), 0.0, s < SCORE_FLOOR);
            p_half[r * P_STRIDE + t] = f16(p * P_UNIT);
            sum += p;
        }
        l = l * shrink + sum;
        if (shrink != 1.0) {
            for (var c = part; c < V_HEAD_DIM; c += PARTS) { o_tile[r * O_STRIDE + c] *= shrink; }
        }
        workgroupBarrier();                                                // E
        for (var b = subgroup; b < TILE_Q / MATRIX * (V_HEAD_DIM / MATRIX); b += subgroups) {
            let row = b / (V_HEAD_DIM / MATRIX) * MATRIX;
            let column = b % (V_HEAD_DIM / MATRIX) * MATRIX;
            coopStoreT(coop_values(row * P_STRIDE, column, row * O_STRIDE + column), &o_tile[row * O_STRIDE + column], O_STRIDE);
        }
        workgroupBarrier();                                                // F
    }

    of_lane[lane] = select(l, -1.0, nan);
    workgroupBarrier();
    l = 0.0;
    nan = false;
    for (var n = 0u; n < PARTS; n++) {
        let x = of_lane[r * PARTS + n];
        nan = nan || x < 0.0;
        l += x;
    }
    if (first_row + r >= rows) { return; }
    // a row with a poisoned score is NaN, whatever a driver's exp2 and comparisons made of it
    let quiet = bitcast<f32>(0x7fc00000u | (lane & 0u));                   // not a constant: WGSL refuses a constant NaN
    let inv = select(select(0.0, 1.0 / l / P_UNIT, l > 0.0), quiet, nan);
    let out_start = params.out_offset + tensor_batch(batch) * params.out_batch + q_token(batch, at.i) * params.out_token + at.head * params.out_head;
    for (var c = part; c < V_CHUNKS; c += PARTS) {
        let o = r * O_STRIDE + 4u * c;
        var x = vec4<f32>(o_tile[o], o_tile[o + 1u], o_tile[o + 2u], o_tile[o + 3u]) * inv;
        if (atomicLoad(&stray) != 0u) { x += coop_strayed(at, keys, kv_head, c); }
        put4(out_start, c, x);
    }
    if (part == 0u) {
        let lse = select(select(MASKED, m + log(l), l > 0.0), quiet, nan);
        work[params.lse_offset + (tensor_batch(batch) * params.num_heads + at.head) * params.q_capacity + q_token(batch, at.i)] = lse;
    }
}

// A row of the packed rows of a kv head; those past the last repeat it and are not stored.
fn coop_row(batch: u32, kv_head: u32, row: u32, rows: u32) -> ScoreAt {
    let packed = min(row, rows - 1u);
    let i = packed / params.group;
    return ScoreAt(batch, kv_head * params.group + packed % params.group, i, 0u, q_index(batch, i), q_position(batch, i), 0);
}
// As `load_q`, without the scale.
fn coop_stage_q(at: ScoreAt, slot: u32) {
    var row: Row;
    let start = q_row(at.batch, at.i, at.head);
    for (var c = 0u; c < head_chunks(); c++) { row[c] = q4(start, c); }
    norm_before(&row, false);
    add_content_bias(&row, at.head);
    rotate_row(&row, q_positions(at.batch, at.i), 1.0);
    norm_after(&row, false);
    for (var c = 0u; c < head_chunks(); c++) {
        let x = row[c];
        let to = slot * Q_STRIDE + 4u * c;
        q_half[to] = f16(x.x);
        q_half[to + 1u] = f16(x.y);
        q_half[to + 2u] = f16(x.z);
        q_half[to + 3u] = f16(x.w);
    }
}
// Lane t rotates key first + t. Those from `count` on are not read.
fn coop_stage_k(batch: u32, kv_head: u32, first: u32, count: u32, lane: u32) {
    if (lane >= TILE_K) { return; }
    var row: Row;
    if (lane < count) {
        let j = first + lane;
        let start = k_row(batch, j, kv_head);
        for (var c = 0u; c < head_chunks(); c++) { row[c] = k4(start, c); }
        prepare_key(&row, batch, j);
    }
    for (var c = 0u; c < head_chunks(); c++) {
        let to = lane * KV_STRIDE + 4u * c;
        let x = select(vec4<f32>(0.0), row[c], lane < count);
        kv_half[to] = f16(x.x);
        kv_half[to + 1u] = f16(x.y);
        kv_half[to + 2u] = f16(x.z);
        kv_half[to + 3u] = f16(x.w);
    }
}
// Values of the tile, as they are stored.
fn coop_stage_v(batch: u32, kv_head: u32, first: u32, count: u32, lane: u32) {
    for (var n = lane; n < TILE_K * V_CHUNKS; n += LANES) {
        let t = n / V_CHUNKS;
        let c = n % V_CHUNKS;
        var x = vec4<f32>(0.0);
        if (t < count) { x = v4(v_row(batch, first + t, kv_head), c); }
        let beyond = is_beyond4(x);
        if (any(beyond)) { atomicOr(&stray, 1u); }
        x = select(x, vec4<f32>(0.0), beyond);
        let to = t * KV_STRIDE + 4u * c;
        kv_half[to] = f16(x.x);
        kv_half[to + 1u] = f16(x.y);
        kv_half[to + 2u] = f16(x.z);
        kv_half[to + 3u] = f16(x.w);
    }
}
// cap(t) + terms.
fn coop_score(t: f32, at: ScoreAt) -> f32 {
    if (is_nan(t)) { return t; }                                           // a driver's comparisons in cap may lose it
    return cap(t) + score_terms(at);
}
// What was staged as 0, of the keys that a row sees: whatever its weight, the sum becomes infinite or NaN.
fn coop_strayed(row: ScoreAt, keys: vec2<u32>, kv_head: u32, c: u32) -> vec4<f32> {
    var at = row;
    var sum = vec4<f32>(0.0);
    for (var j = keys.x; j < keys.y; j++) {
        at.j = j;
        if (visible(at)) {
            let v = v4(v_row(at.batch, j, kv_head), c);
            sum = select(sum, sum + v, is_beyond4(v));
        }
    }
    return sum;
}
