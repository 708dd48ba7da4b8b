// tile: attention for GPUs, as two matrix products in register tiles.
//
//   S = Q K^T in pieces of 8 rows x 4 keys a lane        O += P V in pieces of 8 rows x 4 VALUE_BLOCKS columns a lane
//
// grid       tiles of TILE_Q rows (as in attention.wgsl: the heads that share a kv head are packed)  x  kv heads  x  batch
// workgroup  LANES = TILE_Q / 8 * KEY_LANES lanes: 8 rows each; KEY_LANES of them share rows and divide keys, then columns
// before     prepare_q, prepare_k: see prepare/rows.wgsl
// shared     p_tile   S, then P, four rows of a key in a vec4                           TILE_Q * TILE_K * 4 bytes
//            slices   of Q and K: SLICE_CHUNKS * 4 elements of each row; partial maxima; of V: VALUE_KEYS values
//            tile_rows, 16 bytes a row
// registers  8 x 4 of S twice, 8 x 4 VALUE_BLOCKS of O, m and l of 8 rows
//
//   o, m, l <- nothing, or the sink
//   for each tile of TILE_K keys that some row of the workgroup can see
//       for each slice of the rows                                                             barriers A, B
//           S += Q K^T: sums of 4 FOLD products, which are added up: HEAD_CHUNKS + 3 roundings deep at most
//       p_tile <- S, complete: cap, terms, what poisons by bits; masked where the tile has such keys     (own entries)
//       m' <- max(m, S) over the lanes of a row                                                barriers of `families/reduce_*`
//       p_tile <- P = exp(S - m');  l <- l exp(m - m') + sum P;  o <- o exp(m - m')             (own entries)
//       for each slice of V                                                                    barriers C, D
//           o += P V
//   l over the lanes of a row                                                                  barriers E, F
//   o / l, m + log l
//
// Barriers: A: the slices before (V's of the last tile, or Q's and K's) have been read by all, and so has p_tile of the last tile,
// whose last reads stand between D and the next A or E. B: the slices are written. Own entries of p_tile are written by the one lane
// that reads them until C. `families/reduce_*` puts one before it writes to `slices` and one behind, where it writes there. C: P is written, slices
// are read. D: V is written. E: p_tile has been read. F: l is written. They all stand in control flow that only uniform values decide: lengths in `step`,
// `chunk`, `params`, the workgroup's place.
//
// Values that are not finite: see common/tile_rows.wgsl.
//
// Instructions for a multiply-add, in the inner loops: S 12 loads of 16 bytes from shared memory and 8 additions (1 of FOLD = 4 times 32)
// for 128; P V, at VALUE_BLOCKS 2, 4 loads for 64. Staging: 4 loads, a store and some 6 of addresses for 4 elements, used TILE_Q times.

struct TileScores { a: mat4x4<f32>, b: mat4x4<f32> }     // 4 rows x 4 keys, and the next 4 rows: a column is a key
struct TileOut {                                         // 4 rows x 4 columns, and the next 4 rows: a column is a column
    a0: mat4x4<f32>, b0: mat4x4<f32>, a1: mat4x4<f32>, b1: mat4x4<f32>,
    a2: mat4x4<f32>, b2: mat4x4<f32>, a3: mat4x4<f32>, b3: mat4x4<f32>,
}

const ROWS4: u32 = TILE_Q / 4u;
const K_STRIDE: u32 = SLICE_CHUNKS + 1u;             // odd: neighbouring keys in different banks
const Q_SLICE: u32 = TILE_K * K_STRIDE;              // where Q's slice begins
const V_STRIDE: u32 = VALUE_BLOCKS * KEY_LANES;

var<workgroup> p_tile: array<vec4<f32>, TILE_K * ROWS4>;
var<workgroup> slices: array<vec4<f32>, SLICES>;

// Four rows of a key: neighbouring keys in different banks, all of a key in different ones.
fn p_at(t: u32, row4: u32) -> u32 { return t * ROWS4 + (row4 ^ (t & min(7u, ROWS4 - 1u))); }

// `lane` has the rows and keys of its number; `index` is the local index, whatever a device's subgroups are.
fn attend(workgroup: vec3<u32>, lane: u32, index: u32) {
    let number = chunk.tiles - 1u - workgroup.x;                           // the last ones first: of causal rows they have the most keys
    let at_tile = tile_at(number, workgroup.z);
    let batch = at_tile.x;
    let tile = at_tile.y;
    let kv_head = chunk.kv_head + workgroup.y;
    let place = tile_place(number, kv_head, workgroup.z);
    let rows = q_length(batch) * params.group;
    if (tile * TILE_Q >= rows) { return; }                                 // the same for the whole workgroup
    let first_token = tile * TILE_Q / params.group;
    let last_token = (min(tile * TILE_Q + TILE_Q, rows) - 1u) / params.group;
    let keys = key_range(batch, first_token, last_token);
    let clear = full_range(batch, first_token, last_token);
    let row4 = 2u * (lane / KEY_LANES);
    let key_lane = lane % KEY_LANES;

    if (index == 0u) { atomicStore(&stray, 0u); }
    for (var r = index; r < TILE_Q; r += LANES) {
        let packed = min(tile * TILE_Q + r, rows - 1u);                     // spare rows repeat the last and are not stored
        let i = packed / params.group;
        let head = kv_head * params.group + packed % params.group;
        tile_rows[r] = vec4<i32>(i32(head), i32(i), q_index(batch, i), q_position(batch, i));
    }
    workgroupBarrier();
    let owner = key_lane == 0u;                                            // a sink counts once
    var m0 = tile_first_m(row4);
    var m1 = tile_first_m(row4 + 1u);
    var l0 = select(vec4<f32>(0.0), tile_first_l(row4), owner);
    var l1 = select(vec4<f32>(0.0), tile_first_l(row4 + 1u), owner);
    var worst0 = tile_first_worst(row4);                                   // the largest |S| by bits: NaN is above all; +inf stays in m
    var worst1 = tile_first_worst(row4 + 1u);
    var o: TileOut;

    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        let count = min(TILE_K, keys.y - first);
        let mixed = first < clear.x || first + TILE_K > clear.y;

        // S
        var s: TileScores;
        s.a = mat4x4<f32>();
        s.b = mat4x4<f32>();
        for (var c = 0u; c < head_chunks(); c += SLICE_CHUNKS) {
            let n = min(SLICE_CHUNKS, head_chunks() - c);
            workgroupBarrier();                                            // A
            stage_q(prepared_q_tile(place), c, n, lane);
            stage_k(batch, kv_head, first, count, c, n, lane);
            workgroupBarrier();                                            // B
            for (var fold = 0u; fold < n; fold += FOLD) {
                var part: TileScores;
                part.a = mat4x4<f32>();
                part.b = mat4x4<f32>();
                for (var i = fold; i < min(fold + FOLD, n); i++) {
                    let at_q = Q_SLICE + 4u * i * ROWS4 + row4;
                    let at_k = key_lane * K_STRIDE + i;
                    let k = mat4x4<f32>(slices[at_k], slices[at_k + KEY_LANES * K_STRIDE],
                        slices[at_k + 2u * KEY_LANES * K_STRIDE], slices[at_k + 3u * KEY_LANES * K_STRIDE]);
                    part.a = tile_multiply(part.a, mat4x4<f32>(slices[at_q], slices[at_q + ROWS4], slices[at_q + 2u * ROWS4], slices[at_q + 3u * ROWS4]), k);
                    part.b = tile_multiply(part.b, mat4x4<f32>(slices[at_q + 1u], slices[at_q + ROWS4 + 1u], slices[at_q + 2u * ROWS4 + 1u], slices[at_q + 3u * ROWS4 + 1u]), k);
                }
                s.a += part.a;
                s.b += part.b;
            }
        }
        tile_put_scores(s.a, row4, key_lane);
        tile_put_scores(s.b, row4 + 1u, key_lane);

        // m, and what came before in its terms
        let top = row_max(TileTop(
            tile_complete(batch, row4, key_lane, first, count, mixed, m0, &worst0),
            tile_complete(batch, row4 + 1u, key_lane, first, count, mixed, m1, &worst1)), row4, key_lane);
        let shrink0 = exp_of4(m0 - top.a);
        let shrink1 = exp_of4(m1 - top.b);
        m0 = top.a;
        m1 = top.b;
        l0 = l0 * shrink0 + tile_weigh(row4, key_lane, m0);
        l1 = l1 * shrink1 + tile_weigh(row4 + 1u, key_lane, m1);
        tile_shrink(&o, shrink0, shrink1);

        // O
        for (var t0 = 0u; t0 < count; t0 += VALUE_KEYS) {
            let end = min(t0 + VALUE_KEYS, count);
            workgroupBarrier();                                            // C
            stage_v(batch, kv_head, first, t0, end, mixed, lane);
            workgroupBarrier();                                            // D
            for (var t = t0; t < end; t++) {
                let p0 = p_tile[p_at(t, row4)];
                let p1 = p_tile[p_at(t, row4 + 1u)];
                let at = (t - t0) * V_STRIDE + key_lane;
                let v0 = slices[at];
                o.a0 = tile_add_product(o.a0, p0, v0);
                o.b0 = tile_add_product(o.b0, p1, v0);
                if (VALUE_BLOCKS > 1u) {
                    let v1 = slices[at + KEY_LANES];
                    o.a1 = tile_add_product(o.a1, p0, v1);
                    o.b1 = tile_add_product(o.b1, p1, v1);
                }
                if (VALUE_BLOCKS > 2u) {
                    let v2 = slices[at + 2u * KEY_LANES];
                    o.a2 = tile_add_product(o.a2, p0, v2);
                    o.b2 = tile_add_product(o.b2, p1, v2);
                }
                if (VALUE_BLOCKS > 3u) {
                    let v3 = slices[at + 3u * KEY_LANES];
                    o.a3 = tile_add_product(o.a3, p0, v3);
                    o.b3 = tile_add_product(o.b3, p1, v3);
                }
            }
        }
    }

    // l of a row, and whether a score poisoned it, of all its lanes
    let at = row4 * KEY_LANES;
    workgroupBarrier();                                                    // E
    p_tile[at + key_lane] = l0;
    p_tile[at + KEY_LANES + key_lane] = l1;
    p_tile[ROWS4 * KEY_LANES + at + key_lane] = tile_poison(worst0, m0);
    p_tile[ROWS4 * KEY_LANES + at + KEY_LANES + key_lane] = tile_poison(worst1, m1);
    workgroupBarrier();                                                    // F
    l0 = tile_row_sum(at);
    l1 = tile_row_sum(at + KEY_LANES);
    let nan0 = tile_row_sum(ROWS4 * KEY_LANES + at);
    let nan1 = tile_row_sum(ROWS4 * KEY_LANES + at + KEY_LANES);

    let here = TilePlace(batch, kv_head, tile, place, rows, keys);
    let inv0 = tile_inverse(l0, nan0);
    let inv1 = tile_inverse(l1, nan1);
    tile_store(here, row4, key_lane, transpose(o.a0), inv0);
    tile_store(here, row4 + 1u, key_lane, transpose(o.b0), inv1);
    if (VALUE_BLOCKS > 1u) {
        tile_store(here, row4, KEY_LANES + key_lane, transpose(o.a1), inv0);
        tile_store(here, row4 + 1u, KEY_LANES + key_lane, transpose(o.b1), inv1);
    }
    if (VALUE_BLOCKS > 2u) {
        tile_store(here, row4, 2u * KEY_LANES + key_lane, transpose(o.a2), inv0);
        tile_store(here, row4 + 1u, 2u * KEY_LANES + key_lane, transpose(o.b2), inv1);
    }
    if (VALUE_BLOCKS > 3u) {
        tile_store(here, row4, 3u * KEY_LANES + key_lane, transpose(o.a3), inv0);
        tile_store(here, row4 + 1u, 3u * KEY_LANES + key_lane, transpose(o.b3), inv1);
    }
    if (owner) {
        tile_store_lse(here, row4, m0, l0, nan0);
        tile_store_lse(here, row4 + 1u, m1, l1, nan1);
    }
}

// s + q k, each element one chain.
fn tile_multiply(s: mat4x4<f32>, q: mat4x4<f32>, k: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(tile_chain(s[0], q, k[0]), tile_chain(s[1], q, k[1]), tile_chain(s[2], q, k[2]), tile_chain(s[3], q, k[3]));
}
fn tile_chain(s: vec4<f32>, q: mat4x4<f32>, k: vec4<f32>) -> vec4<f32> {
    return fma(q[3], vec4<f32>(k.w), fma(q[2], vec4<f32>(k.z), fma(q[1], vec4<f32>(k.y), fma(q[0], vec4<f32>(k.x), s))));
}
// o + p v.
fn tile_add_product(o: mat4x4<f32>, p: vec4<f32>, v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(fma(p, vec4<f32>(v.x), o[0]), fma(p, vec4<f32>(v.y), o[1]), fma(p, vec4<f32>(v.z), o[2]), fma(p, vec4<f32>(v.w), o[3]));
}
fn tile_by_rows(o: mat4x4<f32>, x: vec4<f32>) -> mat4x4<f32> { return mat4x4<f32>(o[0] * x, o[1] * x, o[2] * x, o[3] * x); }
fn tile_shrink(o: ptr<function, TileOut>, x0: vec4<f32>, x1: vec4<f32>) {
    (*o).a0 = tile_by_rows((*o).a0, x0);
    (*o).b0 = tile_by_rows((*o).b0, x1);
    if (VALUE_BLOCKS > 1u) {
        (*o).a1 = tile_by_rows((*o).a1, x0);
        (*o).b1 = tile_by_rows((*o).b1, x1);
    }
    if (VALUE_BLOCKS > 2u) {
        (*o).a2 = tile_by_rows((*o).a2, x0);
        (*o).b2 = tile_by_rows((*o).b2, x1);
    }
    if (VALUE_BLOCKS > 3u) {
        (*o).a3 = tile_by_rows((*o).a3, x0);
        (*o).b3 = tile_by_rows((*o).b3, x1);
    }
}

// Elements 4c.. of the tile's queries: n chunks, which stand in a row in `work`.
fn stage_q(start: u32, c: u32, n: u32, lane: u32) {
    let source = start + 4u * c * TILE_Q;
    for (var x = lane; x < n * TILE_Q; x += LANES) {
        slices[Q_SLICE + x] = prepared4(source + 4u * x);
    }
}
// The same of the tile's keys. Those from `count` on are not read.
fn stage_k(batch: u32, kv_head: u32, first: u32, count: u32, c: u32, n: u32, lane: u32) {
    for (var x = lane; x < TILE_K * SLICE_CHUNKS; x += LANES) {
        let t = x / SLICE_CHUNKS;
        let i = x % SLICE_CHUNKS;
        if (i < n) {
            var k = vec4<f32>(0.0);
            if (t < count) { k = tile_k4(tile_k_row(batch, kv_head, first + t), c + i); }
            slices[t * K_STRIDE + i] = k;
        }
    }
}
// Values t0..end of the tile.
fn stage_v(batch: u32, kv_head: u32, first: u32, t0: u32, end: u32, mixed: bool, lane: u32) {
    for (var x = lane; x < (end - t0) * V_STRIDE; x += LANES) {
        let c = x % V_STRIDE;
        var v = vec4<f32>(0.0);
        if (c < V_CHUNKS) { v = v4(v_row(batch, first + t0 + x / V_STRIDE, kv_head), c); }
        if (mixed) {
            let beyond = is_beyond4(v);
            if (any(beyond)) { atomicOr(&stray, 1u); }
            v = select(v, vec4<f32>(0.0), beyond);
        }
        slices[x] = v;
    }
}

fn tile_first_m(row4: u32) -> vec4<f32> {
    let r = 4u * row4;
    return vec4<f32>(first_state(u32(tile_rows[r].x)).m, first_state(u32(tile_rows[r + 1u].x)).m,
        first_state(u32(tile_rows[r + 2u].x)).m, first_state(u32(tile_rows[r + 3u].x)).m);
}
fn tile_first_l(row4: u32) -> vec4<f32> {
    let r = 4u * row4;
    return vec4<f32>(first_state(u32(tile_rows[r].x)).l, first_state(u32(tile_rows[r + 1u].x)).l,
        first_state(u32(tile_rows[r + 2u].x)).l, first_state(u32(tile_rows[r + 3u].x)).l);
}
fn tile_first_worst(row4: u32) -> vec4<u32> {
    let r = 4u * row4;
    return select(vec4<u32>(0u), vec4<u32>(0xffffffffu), vec4<bool>(first_state(u32(tile_rows[r].x)).nan, first_state(u32(tile_rows[r + 1u].x)).nan,
        first_state(u32(tile_rows[r + 2u].x)).nan, first_state(u32(tile_rows[r + 3u].x)).nan));
}

// A lane's keys are key_lane, key_lane + KEY_LANES, and so on.
fn tile_put_scores(s: mat4x4<f32>, row4: u32, key_lane: u32) {
    p_tile[p_at(key_lane, row4)] = s[0];
    p_tile[p_at(key_lane + KEY_LANES, row4)] = s[1];
    p_tile[p_at(key_lane + 2u * KEY_LANES, row4)] = s[2];
    p_tile[p_at(key_lane + 3u * KEY_LANES, row4)] = s[3];
}
// The lane's products become scores; returns the largest, or m.
fn tile_complete(batch: u32, row4: u32, key_lane: u32, first: u32, count: u32, mixed: bool, m: vec4<f32>, worst: ptr<function, vec4<u32>>) -> vec4<f32> {
    var at0 = tile_row_place(batch, 4u * row4);
    var at1 = tile_row_place(batch, 4u * row4 + 1u);
    var at2 = tile_row_place(batch, 4u * row4 + 2u);
    var at3 = tile_row_place(batch, 4u * row4 + 3u);
    var top = m;
    for (var t = key_lane; t < TILE_K; t += KEY_LANES) {
        let j = first + min(t, count - 1u);
        at0.j = j; at1.j = j; at2.j = j; at3.j = j;
        let at = p_at(t, row4);
        let s = scores_of(p_tile[at], at0, at1, at2, at3);
        var seen = vec4<bool>(true);
        if (mixed) {
            seen = vec4<bool>(visible(at0), visible(at1), visible(at2), visible(at3)) & vec4<bool>(t < count);
        }
        *worst = max(*worst, select(vec4<u32>(0u), bitcast<vec4<u32>>(s) & vec4<u32>(0x7fffffffu), seen));
        let x = select(vec4<f32>(MASKED), max(s, vec4<f32>(SCORE_FLOOR)), seen);
        p_tile[at] = x;
        top = max(top, x);
    }
    return top;
}
// The lane's scores become weights; returns their sum.
fn tile_weigh(row4: u32, key_lane: u32, m: vec4<f32>) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var t = key_lane; t < TILE_K; t += KEY_LANES) {
        let at = p_at(t, row4);
        let s = p_tile[at];
        let p = select(exp_of4(max(s, vec4<f32>(SCORE_FLOOR)) - m), vec4<f32>(0.0), s < vec4<f32>(SCORE_FLOOR));
        p_tile[at] = p;
        sum += p;
    }
    return sum;
}
fn exp_of4(x: vec4<f32>) -> vec4<f32> { return exp2(max(x * LOG2_E, vec4<f32>(-200.0))); }

// A sum over the lanes of a row, KEY_LANES / 4 + 1 additions deep.
fn tile_row_sum(at: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    var y = vec4<f32>(0.0);
    var z = vec4<f32>(0.0);
    var w = vec4<f32>(0.0);
    for (var n = at; n < at + KEY_LANES; n += 4u) {
        x += p_tile[n];
        y += p_tile[n + 1u];
        z += p_tile[n + 2u];
        w += p_tile[n + 3u];
    }
    return (x + y) + (z + w);
}
// 1 where a score was NaN or +inf.
fn tile_poison(worst: vec4<u32>, m: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), (worst > vec4<u32>(0x7f800000u)) | poisoned4(m));
}

// 1 / l; 0 of a row that saw nothing, NaN of one with a poisoned score.
fn tile_inverse(l: vec4<f32>, nan: vec4<f32>) -> vec4<f32> {
    let none = vec4<f32>(0.0);
    let quiet = bitcast<vec4<f32>>(vec4<u32>(0x7fc00000u) | (bitcast<vec4<u32>>(nan) & vec4<u32>(0u)));
    return select(select(none, vec4<f32>(1.0) / l, l > none), quiet, nan > none);
}

// Columns 4c.. of four rows.
fn tile_store(here: TilePlace, row4: u32, c: u32, block: mat4x4<f32>, inv: vec4<f32>) {
    if (c >= V_CHUNKS) { return; }
    var of_row = block;
    var factor = inv;
    for (var e = 0u; e < 4u; e++) {
        let r = 4u * row4 + e;
        if (here.tile * TILE_Q + r < here.rows) {
            var at = tile_row_place(here.batch, r);
            var x = of_row[e] * factor[e];
            if (atomicLoad(&stray) != 0u) { x += tile_strayed(here, at, c); }
            put4(params.out_offset + tensor_batch(at.batch) * params.out_batch + q_token(at.batch, at.i) * params.out_token + at.head * params.out_head, c, x);
        }
    }
}
fn tile_store_lse(here: TilePlace, row4: u32, m: vec4<f32>, l: vec4<f32>, nan: vec4<f32>) {
    let none = vec4<f32>(0.0);
    let quiet = bitcast<vec4<f32>>(vec4<u32>(0x7fc00000u) | (bitcast<vec4<u32>>(nan) & vec4<u32>(0u)));
    let lse = select(select(vec4<f32>(MASKED), m + log(l), l > none), quiet, nan > none);
    put_lse4(here.place, row4, lse);
}
