// lanes: attention for devices whose invocations are lanes of a vector register (software adapters).
//
//   S = K Q^T as 4 x 4 matrices in registers: 4 rows of a lane, 32 keys     O += P V likewise
//
// Such a device pays for every load of a lane by itself, and little for arithmetic. So each lane owns four rows, one vec4; it loads
// every eighth key's elements, and the others take them out of its register (`families/broadcast_*`): one load for 8 keys x 4 rows.
//
// grid       tiles of TILE_Q = 4 LANES rows  x  kv heads  x  batch, offset by `chunk`
// workgroup  LANES lanes, one subgroup; no barrier, since no lane touches what another wrote
// before     prepare_q, prepare_k, prepare_v: see `prepare/`          after     store_lse
// shared     o, 64 bytes x V_CHUNKS a lane; what `families/epilogue_*` takes
// registers  S and then P: 32 vec4
//
//   o, l, m <- the sink, or nothing
//   for each tile of 32 keys that some row of the workgroup can see
//       S <- sum over c of q(4 rows x 4 elements) k(4 elements x 32 keys)            HEAD_CHUNKS + 3 additions deep
//       S <- epilogue(S)                                                             (1) cap, terms
//       where some row does not see some key: seen, a bit a key                     (2) by index
//       m' <- max(m, S);  P <- exp(S - m');  l <- l exp(m - m') + sum P            (3) one rescale a tile
//       o <- o exp(m - m') + P V                                                    (4) masked values that are not finite are 0
//   o / l, m + log l

var<workgroup> o_tile: array<vec4<f32>, 4 * V_CHUNKS * LANES>;

// 4 rows x 32 keys: a column is a key.
struct Scores {
    a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>,
    e: mat4x4<f32>, f: mat4x4<f32>, g: mat4x4<f32>, h: mat4x4<f32>,
}
// The four rows of a lane. Spare ones repeat the last and are not stored.
struct Rows4 { a: ScoreAt, b: ScoreAt, c: ScoreAt, d: ScoreAt, packed: vec4<u32> }

fn row_at(batch: u32, kv_head: u32, packed: u32) -> ScoreAt {
    let i = packed / params.group;
    return ScoreAt(batch, kv_head * params.group + packed % params.group, i, 0u, q_index(batch, i), q_position(batch, i), 0);
}
fn to_key(rows: ptr<function, Rows4>, j: u32) {
    let k_pos = k_position((*rows).a.batch, j);
    (*rows).a.j = j; (*rows).b.j = j; (*rows).c.j = j; (*rows).d.j = j;
    (*rows).a.k_pos = k_pos; (*rows).b.k_pos = k_pos; (*rows).c.k_pos = k_pos; (*rows).d.k_pos = k_pos;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    // from both ends in turn: software adapters give each of their threads a run of workgroups, which so holds as much of a causal triangle
    let half = workgroup.x / 2u;
    let tile = chunk.tile + select(half, chunk.tiles - 1u - half, workgroup.x % 2u == 1u);
    let rows = q_length(batch) * params.group;
    if (tile * TILE_Q >= rows) { return; }                                 // the same for the whole workgroup
    let first_token = tile * TILE_Q / params.group;
    let last_token = (min(tile * TILE_Q + TILE_Q, rows) - 1u) / params.group;
    let keys = key_range(batch, first_token, last_token);
    let clear = full_range(batch, first_token, last_token);
    let q_start = prepared_q_tile(tile_place(tile - chunk.tile, kv_head, workgroup.z)) + 4u * lane;

    let packed = min(vec4<u32>(tile * TILE_Q + 4u * lane) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(rows - 1u));
    var at = Rows4(row_at(batch, kv_head, packed.x), row_at(batch, kv_head, packed.y), row_at(batch, kv_head, packed.z), row_at(batch, kv_head, packed.w), packed);
    let first_a = first_state(at.a.head);
    let first_b = first_state(at.b.head);
    let first_c = first_state(at.c.head);
    let first_d = first_state(at.d.head);
    var m = vec4<f32>(first_a.m, first_b.m, first_c.m, first_d.m);
    var l = vec4<f32>(first_a.l, first_b.l, first_c.l, first_d.l);
    var any = vec4<bool>(first_a.any, first_b.any, first_c.any, first_d.any);
    // the largest |S| by bits: NaN is above all; +inf stays in m
    var worst = select(vec4<u32>(0u), vec4<u32>(0xffffffffu), vec4<bool>(first_a.nan, first_b.nan, first_c.nan, first_d.nan));
    for (var c = 0u; c < 4u * v_chunks(); c++) { o_tile[c * LANES + lane] = vec4<f32>(0.0); }

    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        var s: Scores;
        s.a = mat4x4<f32>(); s.b = mat4x4<f32>(); s.c = mat4x4<f32>(); s.d = mat4x4<f32>();
        s.e = mat4x4<f32>(); s.f = mat4x4<f32>(); s.g = mat4x4<f32>(); s.h = mat4x4<f32>();
        let last = keys.y - 1u;
        let k0 = lane_k_row(batch, kv_head, min(first + eighth(lane), last));
        let k1 = lane_k_row(batch, kv_head, min(first + 8u + eighth(lane), last));
        let k2 = lane_k_row(batch, kv_head, min(first + 16u + eighth(lane), last));
        let k3 = lane_k_row(batch, kv_head, min(first + 24u + eighth(lane), last));
        for (var c = 0u; c < head_chunks(); c++) {
            let at_q = q_start + c * (16u * LANES);
            let q = mat4x4<f32>(prepared4(at_q), prepared4(at_q + 4u * LANES), prepared4(at_q + 8u * LANES), prepared4(at_q + 12u * LANES));
            let x0 = lane_k4(k0, c);
            s.a += q * low(x0); s.b += q * high(x0);
            let x1 = lane_k4(k1, c);
            s.c += q * low(x1); s.d += q * high(x1);
            let x2 = lane_k4(k2, c);
            s.e += q * low(x2); s.f += q * high(x2);
            let x3 = lane_k4(k3, c);
            s.g += q * low(x3); s.h += q * high(x3);
        }
        epilogue(&s, &at, lane, first, min(TILE_K, keys.y - first));

        let mixed = first < clear.x || first + TILE_K > clear.y;
        var seen = vec4<u32>(0xffffffffu);
        if (mixed) {
            seen = vec4<u32>(0u);
            for (var r = 0u; r < 4u + unseen_zero(); r++) {
                var row = row_at(batch, kv_head, pick_u(packed, r));
                var bits = 0u;
                for (var t = 0u; t < min(TILE_K, keys.y - first); t++) {
                    row.j = first + t;
                    row.k_pos = k_position(batch, row.j);
                    bits |= select(0u, 1u << t, visible(row));
                }
                seen = select(seen, vec4<u32>(bits), vec4<u32>(r) == vec4<u32>(0u, 1u, 2u, 3u));
            }
            s.a = seen_or_floor(s.a, seen); s.b = seen_or_floor(s.b, seen >> vec4<u32>(4u));
            s.c = seen_or_floor(s.c, seen >> vec4<u32>(8u)); s.d = seen_or_floor(s.d, seen >> vec4<u32>(12u));
            s.e = seen_or_floor(s.e, seen >> vec4<u32>(16u)); s.f = seen_or_floor(s.f, seen >> vec4<u32>(20u));
            s.g = seen_or_floor(s.g, seen >> vec4<u32>(24u)); s.h = seen_or_floor(s.h, seen >> vec4<u32>(28u));
        }
        any = any | (seen != vec4<u32>(0u));
        worst = max(max(max(worst, size_of(s.a)), max(size_of(s.b), size_of(s.c))), max(max(size_of(s.d), size_of(s.e)), max(size_of(s.f), max(size_of(s.g), size_of(s.h)))));

        // m, and what came before in its terms
        let top = max(max(max(m, top_of(s.a)), max(top_of(s.b), top_of(s.c))), max(max(top_of(s.d), top_of(s.e)), max(top_of(s.f), max(top_of(s.g), top_of(s.h)))));
        let shrink = exp_of4(m - top);
        m = top;
        // P, l
        s.a = weights(s.a, m); s.b = weights(s.b, m); s.c = weights(s.c, m); s.d = weights(s.d, m);
        s.e = weights(s.e, m); s.f = weights(s.f, m); s.g = weights(s.g, m); s.h = weights(s.h, m);
        if (mixed) {
            s.a = seen_or_zero(s.a, seen); s.b = seen_or_zero(s.b, seen >> vec4<u32>(4u));
            s.c = seen_or_zero(s.c, seen >> vec4<u32>(8u)); s.d = seen_or_zero(s.d, seen >> vec4<u32>(12u));
            s.e = seen_or_zero(s.e, seen >> vec4<u32>(16u)); s.f = seen_or_zero(s.f, seen >> vec4<u32>(20u));
            s.g = seen_or_zero(s.g, seen >> vec4<u32>(24u)); s.h = seen_or_zero(s.h, seen >> vec4<u32>(28u));
        }
        l = l * shrink + (((sum_of(s.a) + sum_of(s.b)) + (sum_of(s.c) + sum_of(s.d))) + ((sum_of(s.e) + sum_of(s.f)) + (sum_of(s.g) + sum_of(s.h))));

        // O
        let v0 = lane_v_row(batch, kv_head, min(first + eighth(lane), last));
        let v1 = lane_v_row(batch, kv_head, min(first + 8u + eighth(lane), last));
        let v2 = lane_v_row(batch, kv_head, min(first + 16u + eighth(lane), last));
        let v3 = lane_v_row(batch, kv_head, min(first + 24u + eighth(lane), last));
        var stray = false;
        for (var c = 0u; c < v_chunks(); c++) {
            let at_o = 4u * c * LANES + lane;
            var y0 = lane_v4(v0, c);
            var y1 = lane_v4(v1, c);
            var y2 = lane_v4(v2, c);
            var y3 = lane_v4(v3, c);
            if (mixed) {
                stray = stray || any_beyond(y0) || any_beyond(y1) || any_beyond(y2) || any_beyond(y3);
                y0 = finite(y0); y1 = finite(y1); y2 = finite(y2); y3 = finite(y3);
            }
            var o = mat4x4<f32>(o_tile[at_o] * shrink, o_tile[at_o + LANES] * shrink, o_tile[at_o + 2u * LANES] * shrink, o_tile[at_o + 3u * LANES] * shrink);
            o += s.a * transpose(low(y0)); o += s.b * transpose(high(y0));
            o += s.c * transpose(low(y1)); o += s.d * transpose(high(y1));
            o += s.e * transpose(low(y2)); o += s.f * transpose(high(y2));
            o += s.g * transpose(low(y3)); o += s.h * transpose(high(y3));
            o_tile[at_o] = o[0];
            o_tile[at_o + LANES] = o[1];
            o_tile[at_o + 2u * LANES] = o[2];
            o_tile[at_o + 3u * LANES] = o[3];
        }
        // what was left out above, for the rows that see it: it makes their elements infinite or NaN, whatever its weight
        if (any_lane(stray)) {
            for (var t = 0u; t < min(TILE_K, keys.y - first); t++) {
                let rows_seen = ((seen >> vec4<u32>(t)) & vec4<u32>(1u)) == vec4<u32>(1u);
                let start = lane_v_row(batch, kv_head, first + t);
                for (var c = 0u; c < v_chunks(); c++) {
                    let y = lane_v4(start, c);
                    for (var x = 0u; x < 4u + unseen_zero(); x++) {
                        let at_o = (4u * c + x) * LANES + lane;
                        if ((bitcast<u32>(pick(y, x)) & 0x7f800000u) == 0x7f800000u) { o_tile[at_o] = select(o_tile[at_o], o_tile[at_o] + pick(y, x), rows_seen); }
                    }
                }
            }
        }
    }

    let lse = select(vec4<f32>(MASKED), m + log(l), any);
    // a row with a poisoned score is NaN, whatever a driver's exp2 and comparisons made of it
    let poison = select(vec4<u32>(0u), vec4<u32>(1u), (worst > vec4<u32>(0x7f800000u)) | poisoned4(m));
    let nan = bitcast<f32>(0x7fc00000u | (lane & 0u));                     // not a constant: WGSL refuses a constant NaN
    put_lse4(tile_place(tile - chunk.tile, kv_head, workgroup.z), lane, select(lse, vec4<f32>(nan), poison == vec4<u32>(1u)));
    for (var r = 0u; r < 4u + unseen_zero(); r++) {
        if (tile * TILE_Q + 4u * lane + r < rows) {
            let row = row_at(batch, kv_head, pick_u(packed, r));
            let any_r = pick_u(select(vec4<u32>(0u), vec4<u32>(1u), any), r) == 1u;
            let inv_l = select(select(0.0, 1.0 / pick(l, r), any_r), nan, pick_u(poison, r) == 1u);
            let out_start = params.out_offset + tensor_batch(batch) * params.out_batch + q_token(batch, row.i) * params.out_token + row.head * params.out_head;
            for (var c = 0u; c < v_chunks(); c++) {
                let at_o = 4u * c * LANES + lane;
                put4(out_start, c, inv_l * vec4<f32>(pick(o_tile[at_o], r), pick(o_tile[at_o + LANES], r), pick(o_tile[at_o + 2u * LANES], r), pick(o_tile[at_o + 3u * LANES], r)));
            }
        }
    }
}

// One of four, without an index into a vector, which a driver would spill for it.
fn pick(x: vec4<f32>, r: u32) -> f32 { return select(select(x.w, x.z, r == 2u), select(x.y, x.x, r == 0u), r < 2u); }
fn pick_u(x: vec4<u32>, r: u32) -> u32 { return select(select(x.w, x.z, r == 2u), select(x.y, x.x, r == 0u), r < 2u); }

fn exp_of4(x: vec4<f32>) -> vec4<f32> { return exp2(max(x * LOG2_E, vec4<f32>(-200.0))); }
fn weights(s: mat4x4<f32>, m: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(exp_of4(max(s[0], vec4<f32>(SCORE_FLOOR)) - m), exp_of4(max(s[1], vec4<f32>(SCORE_FLOOR)) - m),
        exp_of4(max(s[2], vec4<f32>(SCORE_FLOOR)) - m), exp_of4(max(s[3], vec4<f32>(SCORE_FLOOR)) - m));
}
fn top_of(s: mat4x4<f32>) -> vec4<f32> { return max(max(s[0], s[1]), max(s[2], s[3])); }
fn sum_of(p: mat4x4<f32>) -> vec4<f32> { return (p[0] + p[1]) + (p[2] + p[3]); }
fn bits_of(s: vec4<f32>) -> vec4<u32> { return bitcast<vec4<u32>>(s) & vec4<u32>(0x7fffffffu); }
fn size_of(s: mat4x4<f32>) -> vec4<u32> { return max(max(bits_of(s[0]), bits_of(s[1])), max(bits_of(s[2]), bits_of(s[3]))); }

// Bit t of `seen` is key t of the matrix.
fn of_seen(s: mat4x4<f32>, seen: vec4<u32>, other: f32) -> mat4x4<f32> {
    let x = vec4<f32>(other);
    let none = vec4<u32>(0u);
    return mat4x4<f32>(
        select(x, s[0], (seen & vec4<u32>(1u)) != none), select(x, s[1], (seen & vec4<u32>(2u)) != none),
        select(x, s[2], (seen & vec4<u32>(4u)) != none), select(x, s[3], (seen & vec4<u32>(8u)) != none));
}
fn seen_or_floor(s: mat4x4<f32>, seen: vec4<u32>) -> mat4x4<f32> { return of_seen(s, seen, SCORE_FLOOR); }
fn seen_or_zero(p: mat4x4<f32>, seen: vec4<u32>) -> mat4x4<f32> { return of_seen(p, seen, 0.0); }

fn any_beyond(x: vec4<f32>) -> bool { return any(is_beyond4(x)); }
fn finite(x: vec4<f32>) -> vec4<f32> { return select(x, vec4<f32>(0.0), is_beyond4(x)); }
