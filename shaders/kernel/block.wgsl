// block: attention for GPUs, as two matrix products whose operands and results stay in registers.
//
//   S = Q K^T in blocks of 4 ROW_BLOCKS rows x 4 KEY_BLOCKS keys a lane      O += P V in blocks of 4 ROW_BLOCKS rows x 4 COLUMN_BLOCKS columns a lane
//
// grid       tiles of TILE_Q rows (as in attention.wgsl: the heads that share a kv head are packed), the last first  x  kv heads  x  batch
// workgroup  LANES = 4 TILE_Q / ROW_BLOCKS lanes: 16 neighbours share rows and divide keys, then columns
// before     prepare_q, prepare_k: rows in the order in which they are staged, [tile][element][row or slot]: see common/prepared_tiles.wgsl
// after      store_lse
// shared     slices   of Q and K: SLICE_DIM elements of each row; of V: SLICE_KEYS values
//            p_tile   maxima; P of P_KEYS keys, four rows of a key in a vec4; terms of scores, each lane its own; in the end l
//            tile_rows, 16 bytes a row
// registers  S and O of the block, m and l of its rows; what is staged next
//
//   o, m, l <- nothing, or the sink
//   for each tile of TILE_K keys that some row of the workgroup can see
//       for each slice of the rows                                       loads, barrier, slices, barrier
//           S += Q K^T                                                   one chain of HEAD_DIM multiply-adds a score
//       S <- cap, terms, masked                                          in registers where the mask is a range and nothing else is done
//       m' <- max(m, S) over the 16 lanes of a row                       barrier, p_tile, barrier
//       S <- P = exp(S - m');  l <- l exp(m - m') + sum P;  o <- o exp(m - m')
//       for each P_KEYS of its keys                                      barrier, p_tile
//           for each slice of V                                          loads, barrier, slices, barrier
//               o += P V
//   l over the lanes of a row
//   o / l, m + log l
//
// A lane's keys are slots 4 kl..4 kl + 3 of each 64: keys kl, kl + 16, kl + 32, kl + 48, so that lanes write P to different banks.
//
// Values that are not finite: see common/tile_rows.wgsl.

const ROWS4: u32 = TILE_Q / 4u;
const KEYS4: u32 = TILE_K / 4u;
const COLUMNS4: u32 = 16u * COLUMN_BLOCKS;
const P_STRIDE: u32 = ROWS4 + 1u;                          // odd: neighbouring keys in different banks
const P_STEPS: u32 = P_KEYS / 16u;                         // keys of a lane in p_tile
const Q_LOADS: u32 = SLICE_DIM * ROWS4 / LANES;
const K_LOADS: u32 = SLICE_DIM * KEYS4 / LANES;
const V_LOADS: u32 = SLICE_KEYS * COLUMNS4 / LANES;
const K_SLICE: u32 = SLICE_DIM * ROWS4;                    // where K's slice begins

var<workgroup> slices: array<vec4<f32>, SLICES>;
var<workgroup> p_tile: array<vec4<f32>, P_VECTORS>;

// Of 4 ROW_BLOCKS rows; arrays are as long as the loops over them, and indexed by these loops alone: so compilers keep them in registers.
alias OfRows = array<vec4<f32>, ROW_BLOCKS>;
// Of 4 keys (or columns) and these rows; a tile's.
alias Scores = array<array<OfRows, 4>, KEY_BLOCKS>;
alias Outputs = array<array<OfRows, 4>, COLUMN_BLOCKS>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    hide_steps();
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
    let seen = key_range(batch, first_token, last_token);
    let clear = full_range(batch, first_token, last_token);
    // in rows of the tensor, whose tiles packed sequences share
    let base = k_token(batch, 0u);
    let keys = vec2<u32>(base) + seen;
    let row4 = lane / 16u * ROW_BLOCKS;
    let kl = lane % 16u;

    if (lane == 0u) { atomicStore(&stray, 0u); }
    for (var r = lane; r < TILE_Q; r += LANES) {
        let packed = min(tile * TILE_Q + r, rows - 1u);                    // spare rows repeat the last and are not stored
        let i = packed / params.group;
        let head = kv_head * params.group + packed % params.group;
        tile_rows[r] = vec4<i32>(i32(head), i32(i), q_index(batch, i), q_position(batch, i));
    }
    workgroupBarrier();
    var m: OfRows;
    var l: OfRows;
    var worst: array<vec4<u32>, ROW_BLOCKS>;                               // the largest |S| by bits: NaN is above all; +inf stays in m
    for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
        for (var r = 0u; r < steps(4u); r++) {
            let state = first_state(u32(tile_rows[4u * (row4 + h) + r].x));
            m[h][r] = state.m;
            l[h][r] = select(0.0, state.l, kl == 0u);                      // a sink counts once
            worst[h][r] = select(0u, 0xffffffffu, state.nan);
        }
    }
    var strayed = false;
    var o: Outputs;
    for (var n = 0u; n < steps(COLUMN_BLOCKS); n++) {
        for (var x = 0u; x < steps(4u); x++) {
            for (var h = 0u; h < steps(ROW_BLOCKS); h++) { o[n][x][h] = vec4<f32>(0.0); }
        }
    }
    let q_at = prepared_q_tile(place) / 4u;

    if (seen.x < seen.y) {
    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        let mixed = first < base + clear.x || first + TILE_K > base + clear.y;
        let k_at = prepared_k_tile(batch, kv_head, first) / 4u;

        // S
        var s: Scores;
        for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
            for (var x = 0u; x < steps(4u); x++) {
                for (var h = 0u; h < steps(ROW_BLOCKS); h++) { s[n][x][h] = vec4<f32>(0.0); }
            }
        }
        for (var c = 0u; c < 4u * HEAD_CHUNKS; c += SLICE_DIM) {
            var q_in: array<vec4<f32>, Q_LOADS>;
            var k_in: array<vec4<f32>, K_LOADS>;
            for (var i = 0u; i < steps(Q_LOADS); i++) { q_in[i] = work4[q_at + c * ROWS4 + lane + i * LANES]; }
            for (var i = 0u; i < steps(K_LOADS); i++) { k_in[i] = work4[k_at + c * KEYS4 + lane + i * LANES]; }
            workgroupBarrier();
            for (var i = 0u; i < steps(Q_LOADS); i++) { slices[lane + i * LANES] = q_in[i]; }
            for (var i = 0u; i < steps(K_LOADS); i++) { slices[K_SLICE + lane + i * LANES] = k_in[i]; }
            workgroupBarrier();
            let end = min(SLICE_DIM, 4u * HEAD_CHUNKS - c);
            for (var d = 0u; d < end; d += 4u) {
                for (var u = 0u; u < steps(4u); u++) {
                    var q4: OfRows;
                    for (var h = 0u; h < steps(ROW_BLOCKS); h++) { q4[h] = slices[(d + u) * ROWS4 + row4 + h]; }
                    for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                        let k4 = slices[K_SLICE + (d + u) * KEYS4 + 16u * n + kl];
                        for (var x = 0u; x < steps(4u); x++) {
                            for (var h = 0u; h < steps(ROW_BLOCKS); h++) { s[n][x][h] = fma(q4[h], vec4<f32>(k4[x]), s[n][x][h]); }
                        }
                    }
                }
            }
        }

        // cap, terms, masks
        if (PLAIN == 1u) {
            if (mixed) {
                for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
                    var at: array<ScoreAt, 4>;
                    for (var r = 0u; r < steps(4u); r++) { at[r] = tile_row_place(batch, 4u * (row4 + h) + r); }
                    for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                        for (var x = 0u; x < steps(4u); x++) {
                            let key = first + 64u * n + 16u * x + kl;
                            let there = key >= keys.x && key < keys.y;
                            var seen4: vec4<bool>;
                            for (var r = 0u; r < steps(4u); r++) {
                                at[r].j = key - base;
                                seen4[r] = there && visible(at[r]);
                            }
                            s[n][x][h] = select(vec4<f32>(MASKED), floored(s[n][x][h]), seen4);
                        }
                    }
                }
            }
        } else {
            for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                for (var part = 0u; part < steps(4u / P_STEPS); part++) {
                    for (var x = 0u; x < steps(P_STEPS); x++) {
                        for (var h = 0u; h < steps(ROW_BLOCKS); h++) { p_tile[own_place(x, row4 + h, kl)] = s[n][part * P_STEPS + x][h]; }
                    }
                    // a loop that no compiler unrolls
                    for (var y = 0u; y < P_STEPS * ROW_BLOCKS + unseen_zero(); y++) {
                        let x = y / ROW_BLOCKS;
                        let at = own_place(x, row4 + y % ROW_BLOCKS, kl);
                        let key = first + 64u * n + 16u * (part * P_STEPS + x) + kl;
                        p_tile[at] = finished(p_tile[at], batch, row4 + y % ROW_BLOCKS, key, base, keys, mixed);
                    }
                    for (var x = 0u; x < steps(P_STEPS); x++) {
                        for (var h = 0u; h < steps(ROW_BLOCKS); h++) { s[n][part * P_STEPS + x][h] = p_tile[own_place(x, row4 + h, kl)]; }
                    }
                }
            }
        }

        // m, and what came before in its terms
        for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
            for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                for (var x = 0u; x < steps(4u); x++) { worst[h] = max(worst[h], bitcast<vec4<u32>>(s[n][x][h]) & vec4<u32>(0x7fffffffu)); }
            }
        }
        if (PLAIN == 1u && !mixed) {                                       // else it is done
            for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                for (var x = 0u; x < steps(4u); x++) {
                    for (var h = 0u; h < steps(ROW_BLOCKS); h++) { s[n][x][h] = max(s[n][x][h], vec4<f32>(SCORE_FLOOR)); }
                }
            }
        }
        var top: OfRows;
        for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
            top[h] = m[h];
            for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                for (var x = 0u; x < steps(4u); x++) { top[h] = max(top[h], s[n][x][h]); }
            }
        }
        workgroupBarrier();
        for (var h = 0u; h < steps(ROW_BLOCKS); h++) { p_tile[(row4 + h) * 17u + kl] = top[h]; }
        workgroupBarrier();
        for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
            for (var n = 0u; n < steps(16u); n++) { top[h] = max(top[h], p_tile[(row4 + h) * 17u + n]); }
            let shrink = exp_of4(m[h] - top[h]);
            m[h] = top[h];
            var sum: array<vec4<f32>, KEY_BLOCKS>;
            for (var n = 0u; n < steps(KEY_BLOCKS); n++) {
                for (var x = 0u; x < steps(4u); x++) { s[n][x][h] = exp_of4(s[n][x][h] - m[h]); }   // 0 where masked
                sum[n] = (s[n][0][h] + s[n][1][h]) + (s[n][2][h] + s[n][3][h]);
            }
            l[h] *= shrink;
            for (var n = 0u; n < steps(KEY_BLOCKS); n++) { l[h] += sum[n]; }
            for (var n = 0u; n < steps(COLUMN_BLOCKS); n++) {
                for (var x = 0u; x < steps(4u); x++) { o[n][x][h] *= shrink; }
            }
        }

        // O
        for (var n = 0u; n < uniform_steps(KEY_BLOCKS); n++) {
            for (var part = 0u; part < uniform_steps(4u / P_STEPS); part++) {
                let from_key = first + 64u * n + part * P_KEYS;
                workgroupBarrier();
                for (var x = 0u; x < steps(P_STEPS); x++) {
                    for (var h = 0u; h < steps(ROW_BLOCKS); h++) { p_tile[own_place(x, row4 + h, kl)] = s[n][part * P_STEPS + x][h]; }
                }
                // the same for the whole workgroup
                for (var t0 = 0u; t0 < select(0u, P_KEYS, from_key < keys.y); t0 += SLICE_KEYS) {
                    var v_in: array<vec4<f32>, V_LOADS>;
                    for (var i = 0u; i < steps(V_LOADS); i++) {
                        let at = lane + i * LANES;
                        let key = clamp(from_key + t0 + at / COLUMNS4, keys.x, keys.y - 1u);
                        v_in[i] = v4(v_row(batch, key - base, kv_head), min(at % COLUMNS4, V_CHUNKS - 1u));
                    }
                    workgroupBarrier();
                    for (var i = 0u; i < steps(V_LOADS); i++) {
                        let beyond = is_beyond4(v_in[i]) & vec4<bool>(mixed);
                        strayed = strayed || any(beyond);
                        slices[lane + i * LANES] = select(v_in[i], vec4<f32>(0.0), beyond);
                    }
                    workgroupBarrier();
                    for (var t = 0u; t < SLICE_KEYS; t += 4u) {
                        for (var u = 0u; u < steps(4u); u++) {
                            var p4: OfRows;
                            for (var h = 0u; h < steps(ROW_BLOCKS); h++) { p4[h] = p_tile[(t0 + t + u) * P_STRIDE + row4 + h]; }
                            for (var b = 0u; b < steps(COLUMN_BLOCKS); b++) {
                                let y = slices[(t + u) * COLUMNS4 + 16u * b + kl];
                                for (var x = 0u; x < steps(4u); x++) {
                                    for (var h = 0u; h < steps(ROW_BLOCKS); h++) { o[b][x][h] = fma(p4[h], vec4<f32>(y[x]), o[b][x][h]); }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    }

    // l of a row, and whether a score poisoned it, of all its lanes
    if (strayed) { atomicOr(&stray, 1u); }
    workgroupBarrier();
    for (var h = 0u; h < steps(ROW_BLOCKS); h++) { p_tile[(row4 + h) * 17u + kl] = l[h]; }
    workgroupBarrier();
    for (var h = 0u; h < steps(ROW_BLOCKS); h++) { l[h] = sum_of_lanes(row4 + h); }
    workgroupBarrier();
    for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
        p_tile[(row4 + h) * 17u + kl] = select(vec4<f32>(0.0), vec4<f32>(1.0), (worst[h] > vec4<u32>(0x7f800000u)) | poisoned4(m[h]));
    }
    workgroupBarrier();
    let here = TilePlace(batch, kv_head, tile, place, rows, seen);
    for (var h = 0u; h < steps(ROW_BLOCKS); h++) {
        let nan = sum_of_lanes(row4 + h) > vec4<f32>(0.0);
        let none = vec4<f32>(0.0);
        let quiet = bitcast<vec4<f32>>(vec4<u32>(0x7fc00000u) | (bitcast<vec4<u32>>(l[h]) & vec4<u32>(0u)));   // not a constant: WGSL refuses a constant NaN
        let inv = select(select(none, vec4<f32>(1.0) / l[h], l[h] > none), quiet, nan);
        for (var r = 0u; r < steps(4u); r++) {
            for (var n = 0u; n < steps(COLUMN_BLOCKS); n++) {
                store4(here, 4u * (row4 + h) + r, 16u * n + kl, vec4<f32>(o[n][0][h][r], o[n][1][h][r], o[n][2][h][r], o[n][3][h][r]) * inv[r]);
            }
        }
        if (kl == 0u) { put_lse4(place, row4 + h, select(select(vec4<f32>(MASKED), m[h] + log(l[h]), l[h] > none), quiet, nan)); }
    }
}

// A lane's x-th key in p_tile.
fn own_place(x: u32, row4: u32, kl: u32) -> u32 { return (16u * x + kl) * P_STRIDE + row4; }

// Four rows' products with a key become scores, MASKED where they do not see it.
fn finished(t: vec4<f32>, batch: u32, row4: u32, key: u32, base: u32, keys: vec2<u32>, mixed: bool) -> vec4<f32> {
    var at0 = tile_row_place(batch, 4u * row4);
    var at1 = tile_row_place(batch, 4u * row4 + 1u);
    var at2 = tile_row_place(batch, 4u * row4 + 2u);
    var at3 = tile_row_place(batch, 4u * row4 + 3u);
    let j = clamp(key, keys.x, keys.y - 1u) - base;
    at0.j = j; at1.j = j; at2.j = j; at3.j = j;
    let s = floored(scores_of(t, at0, at1, at2, at3));
    if (!mixed) { return s; }
    let there = vec4<bool>(key >= keys.x && key < keys.y);
    return select(vec4<f32>(MASKED), s, vec4<bool>(visible(at0), visible(at1), visible(at2), visible(at3)) & there);
}
// At least SCORE_FLOOR, but NaN.
fn floored(s: vec4<f32>) -> vec4<f32> { return select(max(s, vec4<f32>(SCORE_FLOOR)), s, is_nan4(s)); }
fn exp_of4(x: vec4<f32>) -> vec4<f32> { return exp2(max(x * LOG2_E, vec4<f32>(-200.0))); }

// A sum over the lanes of four rows, 5 additions deep.
fn sum_of_lanes(row4: u32) -> vec4<f32> {
    var x: array<vec4<f32>, 4>;
    for (var n = 0u; n < steps(4u); n++) {
        let at = row4 * 17u + 4u * n;
        x[n] = (p_tile[at] + p_tile[at + 1u]) + (p_tile[at + 2u] + p_tile[at + 3u]);
    }
    return (x[0] + x[1]) + (x[2] + x[3]);
}

// Columns 4c.. of a row.
fn store4(here: TilePlace, r: u32, c: u32, x: vec4<f32>) {
    if (c >= V_CHUNKS || here.tile * TILE_Q + r >= here.rows) { return; }
    let at = tile_row_place(here.batch, r);
    var y = x;
    if (atomicLoad(&stray) != 0u) { y += tile_strayed(here, at, c); }
    put4(params.out_offset + tensor_batch(at.batch) * params.out_batch + q_token(at.batch, at.i) * params.out_token + at.head * params.out_head, c, y);
}
