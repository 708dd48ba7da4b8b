// coop: attention as two matrix products on cooperative matrices, f16 x f16 + f32. The products themselves, in a dialect of WGSL, are written by the plan
// (src/plan/family/coop.rs): `coop_queries`, `coop_scores`, `coop_rescale`, `coop_values`, `coop_outputs`.
//
// grid       tiles of TILE_Q rows (as in attention.wgsl: the heads that share a kv head are packed)  x  kv heads  x  batch; workgroups take the last tile of every
//            head first, then the one before: of causal rows they have the most keys
// workgroup  LANES lanes, four subgroups of TILE_Q / 4 rows; PARTS neighbouring lanes share a row and divide its keys, then its columns
// before     prepare_q, prepare_k, prepare_v: all operands, in f16, as they are staged: see common/prepared_halves.wgsl
// after      store_lse
// shared     k_tile, v_tile   keys, a row each, and values, a column each
//            s_tile           S in f32, rows of TILE_K; columns of O on their way to lanes
//            p_tile           P in f16, rows of TILE_K
// matrices   Q and O of the subgroup's rows, over the whole loop
// registers  m and a share of l of a lane's row; its scores
//
//   o, m, l <- nothing, or the sink
//   for each tile of TILE_K keys that some row of the workgroup can see    loads
//       k_tile, v_tile <- K, V^T                                           barrier A before, B behind
//       s_tile <- S = Q K^T                                                (matrices), barrier C
//       s_tile <- cap, terms, masked                                       where something is done to products, or a row does not see all keys
//       where a score lies more than GROWTH above m:                       m' <- max S, else m
//           l <- l exp(m - m');  O <- O exp(m - m')                        (matrices) where any row of the workgroup grew, barriers
//       p_tile <- P = P_UNIT exp(S - m');  l <- l + sum P                  barrier D
//       O <- O + P V                                                       (matrices)
//   O / l, m + log l
//
// m follows the largest score lazily: a weight is then at most P_UNIT exp(GROWTH) = 2^15, which f16 holds, and at least 2^-14 where it is more than 2^-21 of
// the largest that m could have had. So O seldom goes through workgroup memory. Every decision before a matrix operation is the same for the workgroup: it hangs
// on `grown` alone, and barriers are those of the workgroup, so that nothing hangs on whether lanes of a subgroup run in step, nor on whether it is as large
// as the text takes it for: if it is smaller, several of them compute the same.
//
// A weight of 0 does not hide a value that is not finite: common/tile_rows.wgsl.

const P_UNIT: f32 = 128.0;
const P_EXPONENT: f32 = 7.0;
const GROWTH: f32 = 5.545177;                              // 8 ln 2
const HIDDEN: f32 = -2e38;                                 // a masked score: below SCORE_FLOOR, and no difference from a score leaves f32 in base 2
const Q_STRIDE: u32 = HEAD_CHUNKS;
const K_STRIDE: u32 = HEAD_CHUNKS + 2u;                    // rows of 16 bytes more: neighbours in different banks
const V_STRIDE: u32 = TILE_K / 4u + 2u;
const S_STRIDE: u32 = TILE_K / 4u + 1u;
const P_STRIDE: u32 = TILE_K / 4u + 2u;
const K_LOADS: u32 = (K_FOURS / 2u + LANES - 1u) / LANES;  // pairs of fours, 16 bytes
const V_LOADS: u32 = (V_FOURS / 2u + LANES - 1u) / LANES;
const OWN: u32 = TILE_K / 4u / PARTS;                      // fours of scores of a lane

var<workgroup> k_tile: array<vec4<f16>, TILE_K * K_STRIDE>;
var<workgroup> v_tile: array<vec4<f16>, V_HEAD_DIM * V_STRIDE>;
var<workgroup> s_tile: array<vec4<f32>, TILE_Q * S_STRIDE>;
var<workgroup> p_tile: array<vec4<f16>, TILE_Q * P_STRIDE>;
var<workgroup> grown: atomic<u32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    hide_steps();
    let number = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
    let head = number % (grid.y * grid.z);
    let x = grid.x - 1u - number / (grid.y * grid.z);
    let at_tile = tile_at(x, head / grid.y);
    let batch = at_tile.x;
    let tile = at_tile.y;
    let kv_head = chunk.kv_head + head % grid.y;
    let place = tile_place(x, kv_head, head / grid.y);
    let rows = q_length(batch) * params.group;
    if (tile * TILE_Q >= rows) { return; }                                 // the same for the whole workgroup
    let first_token = tile * TILE_Q / params.group;
    let last_token = (min(tile * TILE_Q + TILE_Q, rows) - 1u) / params.group;
    let seen = key_range(batch, first_token, last_token);
    let clear = full_range(batch, first_token, last_token);
    let start = select(seen.y, seen.x / TILE_K * TILE_K, seen.x < seen.y);
    let r = lane / PARTS;
    let part = lane % PARTS;

    if (lane == 0u) { atomicStore(&stray, 0u); }
    coop_queries(lane, params.prepared_q / 2u + prepared_q_tile(place) * HEAD_CHUNKS);
    let state = first_state(coop_row(batch, kv_head, tile * TILE_Q + r, rows).head);
    var m = state.m;
    var l = select(0.0, P_UNIT * state.l, part == 0u);                     // a sink counts once
    var nan = state.nan;

    for (var first = start; first < seen.y; first += TILE_K) {
        let mixed = first < clear.x || first + TILE_K > clear.y;
        let source = prepared_k_tile(batch, kv_head, first / TILE_K);
        var k_in: array<vec4<f16>, 2u * K_LOADS>;
        var v_in: array<vec4<f16>, 2u * V_LOADS>;
        for (var i = 0u; i < steps(K_LOADS); i++) {
            let at = source + staged(lane + i * LANES, K_FOURS);
            k_in[2u * i] = work_half[at];
            k_in[2u * i + 1u] = work_half[at + 1u];
        }
        for (var i = 0u; i < steps(V_LOADS); i++) {
            let at = source + K_FOURS + staged(lane + i * LANES, V_FOURS);
            v_in[2u * i] = work_half[at];
            v_in[2u * i + 1u] = work_half[at + 1u];
        }
        workgroupBarrier();                                                // A
        if (lane == 0u) { atomicStore(&grown, 0u); }
        for (var i = 0u; i < steps(K_LOADS); i++) {
            let at = staged(lane + i * LANES, K_FOURS);
            let to = at / HEAD_CHUNKS * K_STRIDE + at % HEAD_CHUNKS;
            k_tile[to] = k_in[2u * i];
            k_tile[to + 1u] = k_in[2u * i + 1u];
        }
        for (var i = 0u; i < steps(V_LOADS); i++) {
            let at = staged(lane + i * LANES, V_FOURS);
            let to = at / (TILE_K / 4u) * V_STRIDE + at % (TILE_K / 4u);
            v_tile[to] = v_in[2u * i];
            v_tile[to + 1u] = v_in[2u * i + 1u];
        }
        workgroupBarrier();                                                // B
        coop_scores(lane);
        workgroupBarrier();                                                // C

        let own = r * S_STRIDE + part;
        if (PLAIN == 0u || mixed) {
            let row = coop_row(batch, kv_head, tile * TILE_Q + r, rows);
            // a loop that no compiler unrolls
            for (var n = 0u; n < OWN + unseen_zero(); n++) {
                let at = own + n * PARTS;
                s_tile[at] = finished(s_tile[at], row, first + 4u * (part + n * PARTS), seen, mixed);
            }
        }
        var x: array<vec4<f32>, OWN>;
        var sum = vec4<f32>(0.0);
        for (var n = 0u; n < steps(OWN); n++) {
            x[n] = s_tile[own + n * PARTS];
            sum += x[n];
        }
        // what is not finite makes the sum so; two that are HIDDEN do too
        if (any(is_beyond4(sum))) {
            for (var n = 0u; n < steps(OWN); n++) {
                let unknown = poisoned4(x[n]);
                nan = nan || any(unknown);
                let floored = select(max(x[n], vec4<f32>(SCORE_FLOOR)), vec4<f32>(SCORE_FLOOR), unknown);
                x[n] = select(floored, x[n], x[n] == vec4<f32>(HIDDEN));
            }
        }
        var top4 = x[0];
        for (var n = 1u; n < steps(OWN); n++) { top4 = max(top4, x[n]); }
        var top = max(max(top4.x, top4.y), max(top4.z, top4.w));
        for (var apart = 1u; apart < PARTS; apart *= 2u) { top = max(top, subgroupShuffleXor(top, apart)); }
        let grew = top - m > GROWTH;
        let next = select(m, top, grew);
        let shrink = exp_of(m - next);
        // before the first key there is nothing to shrink
        if (grew && l > 0.0) { atomicStore(&grown, 1u); }
        m = next;
        l *= shrink;
        if (workgroupUniformLoad(&grown) != 0u) { coop_rescale(lane, shrink); }

        var weights = vec4<f32>(0.0);
        for (var n = 0u; n < steps(OWN); n++) {
            let p = exp2(fma(x[n] - vec4<f32>(m), vec4<f32>(LOG2_E), vec4<f32>(P_EXPONENT)));
            p_tile[r * P_STRIDE + part + n * PARTS] = vec4<f16>(p);
            weights += p;
        }
        l += (weights.x + weights.y) + (weights.z + weights.w);
        workgroupBarrier();                                                // D
        coop_values(lane);
    }

    for (var key = start + lane * TILE_K; key < seen.y; key += LANES * TILE_K) {
        let flag = prepared_k_tile(batch, kv_head, key / TILE_K) + K_FOURS + V_FOURS;
        if (work_half[flag].x != 0.0h) { atomicOr(&stray, 1u); }
    }
    var poison = select(0u, 1u, nan);
    for (var apart = 1u; apart < PARTS; apart *= 2u) {
        l += subgroupShuffleXor(l, apart);
        poison |= subgroupShuffleXor(poison, apart);
    }
    // a row with a poisoned score is NaN, whatever a driver's exp2 and comparisons made of it. One that saw a key has l of P_UNIT at least
    let any_key = l > 1.0;
    let quiet = bitcast<f32>(0x7fc00000u | (lane & 0u));                   // not a constant: WGSL refuses a constant NaN
    let inv = select(select(0.0, 1.0 / l, any_key), quiet, poison != 0u);
    coop_outputs(lane, TilePlace(batch, kv_head, tile, place, rows, seen), inv);
    if (part == 0u) { put_lse(place * TILE_Q + r, select(select(MASKED, m + log(l / P_UNIT), any_key), quiet, poison != 0u)); }
}

// The pair of fours that a lane stages, of `all` fours.
fn staged(pair: u32, all: u32) -> u32 {
    if (all % (2u * LANES) == 0u) { return 2u * pair; }
    return min(2u * pair, all - 2u);
}
// A row of the packed rows of a kv head; those past the last repeat it and are not stored.
fn coop_row(batch: u32, kv_head: u32, row: u32, rows: u32) -> ScoreAt {
    let packed = min(row, rows - 1u);
    let i = packed / params.group;
    return ScoreAt(batch, kv_head * params.group + packed % params.group, i, 0u, q_index(batch, i), q_position(batch, i), 0);
}
// A row's products with four keys become scores, HIDDEN where it does not see them.
fn finished(t: vec4<f32>, row: ScoreAt, key: u32, keys: vec2<u32>, mixed: bool) -> vec4<f32> {
    return vec4<f32>(
        coop_score(t.x, row, key, keys, mixed), coop_score(t.y, row, key + 1u, keys, mixed),
        coop_score(t.z, row, key + 2u, keys, mixed), coop_score(t.w, row, key + 3u, keys, mixed));
}
// At least SCORE_FLOOR, but NaN.
fn coop_score(t: f32, row: ScoreAt, key: u32, keys: vec2<u32>, mixed: bool) -> f32 {
    var at = row;
    at.j = clamp(key, keys.x, keys.y - 1u);
    at.k_pos = k_position(at.batch, at.j);
    if (mixed && !(key >= keys.x && key < keys.y && visible(at))) { return HIDDEN; }
    if (is_nan(t)) { return t; }                                           // a driver's comparisons in cap may lose it
    let s = cap(t) + score_terms(at);
    return select(max(s, SCORE_FLOOR), s, is_nan(s));
}
// Columns of O in s_tile, which a row's lanes shrink.
fn shrink_columns(lane: u32, shrink: f32) {
    let own = lane / PARTS * S_STRIDE + lane % PARTS;
    for (var n = 0u; n < steps(OWN); n++) { s_tile[own + n * PARTS] *= shrink; }
}
// Columns of O in s_tile, from vec4 `first` of a row on, to where the caller finds them.
fn put_columns(lane: u32, first: u32, here: TilePlace, inv: f32) {
    let r = lane / PARTS;
    if (here.tile * TILE_Q + r >= here.rows) { return; }
    let at = coop_row(here.batch, here.kv_head, here.tile * TILE_Q + r, here.rows);
    let start = params.out_offset + tensor_batch(at.batch) * params.out_batch + q_token(at.batch, at.i) * params.out_token + at.head * params.out_head;
    for (var n = lane % PARTS; n < min(TILE_K / 4u, V_CHUNKS - first); n += PARTS) {
        var y = s_tile[r * S_STRIDE + n] * inv;
        if (atomicLoad(&stray) != 0u) { y += tile_strayed(here, at, first + n); }
        put4(start, first + n, y);
    }
}
