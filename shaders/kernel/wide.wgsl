// wide: attention of few rows over many keys, on GPUs. All rows that share a kv head stand in one workgroup, so that each key is read once;
// the keys are split over workgroups, most of them of one tile. What counts is how many bytes are on their way at a time, so every load
// of a tile is asked for before the first is used, in loops of constant counts, and nothing branches between: a load moves down to the branch
// behind which it is used. No subgroups.
//
// grid       splits of params.split_keys keys  x  kv heads  x  batch, offset by `chunk`
// workgroup  LANES lanes. Scores: PARTS neighbours share a key, LANE_UNITS units of two vec4 each, of PASSES keys. Values: COLUMNS neighbours
//            share a key, a vec4 column each. Softmax: a lane has one key, so TILE_K <= LANES
// after      combine: see combine_wide.wgsl
// shared     q of ROWS rows, turned here, and one vec4 of zeros each; partial products, then what lanes reduce, then weights
// registers  the tile's keys and values as they are stored; o: a column of every row, over the keys of the lane
//
//   for each tile of TILE_K keys of the split that some row can see
//       keys, values <- memory
//       q_tile <- scale R(m) (q)                                              again for each tile: with a branch around it the loads would wait
//       S <- Q K^T: by units, then over the PARTS lanes of a key              HEAD_DIM roundings at most; terms; masked ones marked
//       m' <- max(m, S);  P <- exp(S - m')                                    one rescale a tile
//       o, l <- (o, l) exp(m - m') + P (V, 1)                                 masked keys are skipped
//   o, m, l to `work`: one part of the row

const KEYS: u32 = LANES / PARTS;            // of a pass
const PASSES: u32 = TILE_K / KEYS;
const KEY_LANES: u32 = LANES / COLUMNS;     // lanes that share a column of values
const VALUE_LOADS: u32 = TILE_K / KEY_LANES;
const Q_STRIDE: u32 = HEAD_CHUNKS + 1u;     // the last one is 0
var<workgroup> q_tile: array<vec4<f32>, Q_ROWS * Q_STRIDE>;
var<workgroup> lane_tile: array<vec4<f32>, 4u * LANES>;
var<workgroup> fold_tile: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    hide_steps();
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let split = chunk.tile + workgroup.x;
    let rows = q_length(batch) * params.group;
    if (rows == 0u) { return; }                                            // the same for the whole workgroup
    let keys = split_keys(batch, rows, split);
    if (keys.x >= keys.y) { return; }
    let clear = full_range(batch, 0u, (rows - 1u) / params.group);
    let part = lane % PARTS;
    let slot = lane / PARTS;
    let c_own = min(lane % COLUMNS, V_CHUNKS - 1u);
    let key_lane = lane / COLUMNS;
    for (var row = lane; row < Q_ROWS; row += LANES) { q_tile[row * Q_STRIDE + HEAD_CHUNKS] = vec4<f32>(0.0); }

    // arrays are as long as the loops over them, and indexed by these loops alone: so compilers unroll them and keep them in registers
    var o: array<array<vec4<f32>, 4>, ROW_QUADS>;
    var m: array<vec4<f32>, ROW_QUADS>;
    var l: array<vec4<f32>, ROW_QUADS>;                                    // of the lane's own keys, as nan
    var nan: array<vec4<u32>, ROW_QUADS>;
    for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
        m[quad] = vec4<f32>(SCORE_FLOOR);
        l[quad] = vec4<f32>(0.0);
        nan[quad] = vec4<u32>(0u);
        for (var r = 0u; r < steps(4u); r++) { o[quad][r] = vec4<f32>(0.0); }
    }

    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        let last = keys.y - 1u;
        // every load
        var q_raw: array<QueryUnit, Q_ITEMS>;
        for (var n = 0u; n < steps(Q_ITEMS); n++) { q_raw[n] = query_unit(batch, kv_head, rows, lane + n * LANES); }
        var at_key: array<KeyPosition, PASSES>;
        for (var sweep = 0u; sweep < steps(PASSES); sweep++) { at_key[sweep] = key_position(batch, min(first + slot + sweep * KEYS, last)); }
        var k_raw: array<array<array<KRaw4, 2>, LANE_UNITS>, PASSES>;
        for (var sweep = 0u; sweep < steps(PASSES); sweep++) {
            let k_start = k_row(batch, min(first + slot + sweep * KEYS, last), kv_head);
            for (var u = 0u; u < steps(LANE_UNITS); u++) {
                let source = key_source(min(part + u * PARTS, KEY_UNITS - 1u));
                k_raw[sweep][u][0] = k_raw4(k_start, source.x);
                k_raw[sweep][u][1] = k_raw4(k_start, source.y);
            }
        }
        var v_raw: array<VRaw4, VALUE_LOADS>;
        for (var n = 0u; n < steps(VALUE_LOADS); n++) {
            v_raw[n] = v_raw4(v_row(batch, min(first + key_lane + n * KEY_LANES, last), kv_head), c_own);
        }

        // q; rows past the last stand behind it and are asked by nobody
        for (var n = 0u; n < steps(Q_ITEMS); n++) {
            let item = lane + n * LANES;
            let y = turned_query(q_raw[n], batch, kv_head, rows, item);
            let place = query_place(item);
            q_tile[place.x] = y[0];
            q_tile[place.y] = y[1];
        }
        workgroupBarrier();

        // S, a lane's share of it
        var s: array<array<vec4<f32>, PASSES>, ROW_QUADS>;
        for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
            for (var sweep = 0u; sweep < steps(PASSES); sweep++) { s[quad][sweep] = vec4<f32>(0.0); }
        }
        for (var u = 0u; u < steps(LANE_UNITS); u++) {
            let unit = min(part + u * PARTS, KEY_UNITS - 1u);
            let there = part + u * PARTS < KEY_UNITS;
            let place = key_place(unit, there);
            var y: array<mat2x4<f32>, PASSES>;
            for (var sweep = 0u; sweep < steps(PASSES); sweep++) {
                y[sweep] = turned_key(k_unpack4(k_raw[sweep][u][0]), k_unpack4(k_raw[sweep][u][1]), at_key[sweep], unit, there);
            }
            for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
                for (var r = 0u; r < steps(4u); r++) {
                    let row = (4u * quad + r) * Q_STRIDE;
                    let a = q_tile[row + place.x];
                    let b = q_tile[row + place.y];
                    for (var sweep = 0u; sweep < steps(PASSES); sweep++) {
                        s[quad][sweep][r] = plus_products(plus_products(s[quad][sweep][r], a, y[sweep][0]), b, y[sweep][1]);
                    }
                }
            }
        }
        // the shares of a key together; terms, marks
        let j = min(first + lane, last);
        let own = lane < TILE_K && first + lane >= keys.x && first + lane < keys.y;
        let mixed = first < clear.x || first + TILE_K > clear.y || first < keys.x;
        var s_own: array<vec4<f32>, ROW_QUADS>;
        for (var quad = 0u; quad < uniform_steps(ROW_QUADS); quad++) {
            workgroupBarrier();
            for (var sweep = 0u; sweep < steps(PASSES); sweep++) { lane_tile[sweep * LANES + lane] = s[quad][sweep]; }
            workgroupBarrier();
            let shares = min(lane, TILE_K - 1u) * PARTS;                   // pass, key of it, part: in this order
            var sum = lane_tile[shares + lane % PARTS];                    // not all lanes at the same bank
            for (var n = 1u; n < PARTS; n++) { sum += lane_tile[shares + (lane + n) % PARTS]; }
            if (PLAIN == 1u) {
                for (var r = 0u; r < steps(4u); r++) { sum[r] = select(MASKED, sum[r], own && seen_plainly(batch, kv_head, min(4u * quad + r, rows - 1u), j)); }
            } else {
                sum = select(vec4<f32>(MASKED), finish4(sum, batch, kv_head, min(4u * quad, rows - 1u), rows, j), vec4<bool>(own));
            }
            nan[quad] |= poison_of(sum);
            s_own[quad] = floored(sum);
        }

        // m, and what came before in its terms
        workgroupBarrier();
        for (var quad = 0u; quad < steps(ROW_QUADS); quad++) { lane_tile[quad * LANES + lane] = s_own[quad]; }
        workgroupBarrier();
        var top = vec4<f32>(SCORE_FLOOR);
        for (var n = 0u; n < steps(TILE_K / 8u); n++) { top = max(top, lane_tile[fold_start(lane) + 8u * n]); }
        fold_tile[lane] = top;
        workgroupBarrier();
        for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
            var next = m[quad];
            for (var n = 0u; n < steps(8u); n++) { next = max(next, fold_tile[8u * quad + n]); }
            let shrink = exp_of4(m[quad] - next);
            for (var r = 0u; r < steps(4u); r++) { o[quad][r] *= shrink[r]; }
            let p = marked(exp_of4(s_own[quad] - next), s_own[quad]);
            lane_tile[quad * LANES + lane] = p;
            l[quad] = l[quad] * shrink + weight(p);
            m[quad] = next;
        }
        workgroupBarrier();

        // O
        for (var n = 0u; n < steps(VALUE_LOADS); n++) {
            let t = key_lane + n * KEY_LANES;
            var y = v_unpack4(v_raw[n]);
            // where all rows see the same keys, a key that they do not see is 0: the first of them stands for all
            if (ONE_MASK == 1u) { y = select(vec4<f32>(0.0), y, vec4<bool>(lane_tile[t].x >= 0.0)); }
            for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
                let p = lane_tile[quad * LANES + t];
                let w = weight(p);
                for (var r = 0u; r < steps(4u); r++) {
                    let next = fma(y, vec4<f32>(w[r]), o[quad][r]);
                    o[quad][r] = select(o[quad][r], next, vec4<bool>(ONE_MASK == 1u || p[r] >= 0.0));
                }
            }
        }
    }

    // the lanes of a column together
    for (var quad = 0u; quad < uniform_steps(ROW_QUADS); quad++) {
        workgroupBarrier();
        for (var r = 0u; r < steps(4u); r++) { lane_tile[r * LANES + lane] = o[quad][r]; }
        workgroupBarrier();
        for (var r = key_lane; r < 4u; r += KEY_LANES) {
            let column = r * LANES + lane % COLUMNS;
            var sum = lane_tile[column];
            for (var n = 1u; n < KEY_LANES; n++) { sum += lane_tile[column + n * COLUMNS]; }
            if (4u * quad + r < rows && lane % COLUMNS < V_CHUNKS) { put_part(part_at(batch, kv_head, split, 4u * quad + r), lane % COLUMNS, sum); }
        }
    }
    // l, and whether a row is NaN
    workgroupBarrier();
    for (var quad = 0u; quad < steps(ROW_QUADS); quad++) { lane_tile[quad * LANES + lane] = l[quad]; }
    workgroupBarrier();
    fold_tile[lane] = folded_sum(lane);
    workgroupBarrier();
    var l_all: array<vec4<f32>, ROW_QUADS>;
    for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
        l_all[quad] = fold_tile[8u * quad];
        for (var n = 1u; n < 8u; n++) { l_all[quad] += fold_tile[8u * quad + n]; }
        lane_tile[quad * LANES + lane] = vec4<f32>(nan[quad]);
    }
    workgroupBarrier();
    fold_tile[lane] = folded_sum(lane);
    workgroupBarrier();
    if (lane > 0u) { return; }
    for (var quad = 0u; quad < steps(ROW_QUADS); quad++) {
        var nan_all = fold_tile[8u * quad];
        for (var n = 1u; n < 8u; n++) { nan_all += fold_tile[8u * quad + n]; }
        for (var r = 0u; r < steps(4u); r++) {
            let row = 4u * quad + r;
            if (row < rows) { end_part(part_at(batch, kv_head, split, row), m[quad][r], l_all[quad][r], nan_all[r] > 0.0); }
        }
    }
}

// Eight lanes reduce what the lanes have of a quad, an eighth each; others do the same again, which costs nothing and needs no branch.
fn fold_start(lane: u32) -> u32 { return lane / 8u % ROW_QUADS * LANES + lane % 8u; }
// Of lanes that have a key.
fn folded_sum(lane: u32) -> vec4<f32> {
    var sum = lane_tile[fold_start(lane)];
    for (var n = 1u; n < TILE_K / 8u; n++) { sum += lane_tile[fold_start(lane) + 8u * n]; }
    return sum;
}

// One more vec4 of a product.
fn plus_products(s: f32, a: vec4<f32>, b: vec4<f32>) -> f32 { return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, s)))); }

// Whether a row sees key j, where the mask is a range.
fn seen_plainly(batch: u32, kv_head: u32, packed: u32, j: u32) -> bool {
    let i = token_of(packed);
    return visible(ScoreAt(batch, kv_head * params.group + packed - i * params.group, i, j, q_index(batch, i), 0, 0));
}
fn token_of(packed: u32) -> u32 {
    if (ONE_TOKEN == 1u) { return 0u; }
    return packed / params.group;
}
