// decode: attention of few rows over many keys. All rows that share a kv head stand in one workgroup, so that each key is read once;
// the keys are split over workgroups, so that a large device is full. No subgroups, at most 16 KiB of workgroup memory.
//
// grid       splits of params.split_keys keys  x  kv heads  x  batch, offset by `chunk`
// workgroup  LANES lanes. Scores: PARTS neighbours share a key, so that they load its neighbouring vec4. Values: COLUMNS neighbours
//            share a key, a vec4 column each
// before     prepare_q, prepare_k: see `prepare/`            after     combine: see combine.wgsl
// shared     q of ROW_QUADS quads of rows; scores of TILE_K keys; one vec4 a lane
// registers  o: a column of every row, over the keys of the lane
//
//   for each tile of TILE_K keys of the split that some row can see
//       S <- Q K^T, terms; masked scores are marked                                        HEAD_CHUNKS + 3 additions deep; by index
//       m' <- max(m, S);  P <- exp(S - m')                                                 one rescale a tile
//       o, l <- (o, l) exp(m - m') + P (V, 1)                                              masked keys are skipped where there are any
//   o, m, l to `work`: one part of the row

const KEYS: u32 = LANES / PARTS;            // of one step of scores
const KEY_LANES: u32 = LANES / COLUMNS;     // lanes that share a column of values
const FOLDED: u32 = 8u * ROW_QUADS;         // lanes of the second step of a maximum
var<workgroup> q_tile: array<vec4<f32>, 4u * HEAD_CHUNKS * ROW_QUADS>;
var<workgroup> s_tile: array<vec4<f32>, ROW_QUADS * TILE_K>;
var<workgroup> lane_tile: array<vec4<f32>, LANES>;
var<workgroup> fold_tile: array<vec4<f32>, FOLDED>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let split = chunk.tile + workgroup.x;
    let rows = q_length(batch) * params.group;
    if (rows == 0u) { return; }                                            // the same for the whole workgroup
    let keys = split_keys(batch, rows, split);
    if (keys.x >= keys.y) { return; }
    let clear = full_range(batch, 0u, (rows - 1u) / params.group);
    let q_start = prepared_q_tile(tile_place(0u, kv_head, workgroup.z));
    for (var n = lane; n < 4u * head_chunks() * ROW_QUADS; n += LANES) {
        q_tile[n] = prepared4(q_start + n / ROW_QUADS * TILE_Q + 4u * (n % ROW_QUADS));
    }

    let column = lane % COLUMNS;
    let c_own = min(column, V_CHUNKS - 1u);
    let quad_own = lane % ROW_QUADS;
    var o: array<vec4<f32>, 4u * ROW_QUADS>;
    var m: array<vec4<f32>, ROW_QUADS>;
    var l: array<vec4<f32>, ROW_QUADS>;
    for (var quad = 0u; quad < ROW_QUADS; quad++) {
        m[quad] = vec4<f32>(SCORE_FLOOR);
        l[quad] = vec4<f32>(0.0);
        for (var r = 0u; r < 4u; r++) { o[4u * quad + r] = vec4<f32>(0.0); }
    }
    var nan = vec4<u32>(0u);

    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        let count = min(TILE_K, keys.y - first);
        let mixed = first < clear.x || first + count > clear.y || first < keys.x;
        workgroupBarrier();

        // S
        for (var base = 0u; base < count; base += KEYS) {
            let k_start = lane_k_row(batch, kv_head, min(first + base + lane / PARTS, keys.y - 1u));
            var sum: array<vec4<f32>, ROW_QUADS>;
            for (var quad = 0u; quad < ROW_QUADS; quad++) { sum[quad] = vec4<f32>(0.0); }
            for (var c = lane % PARTS; c < head_chunks(); c += PARTS) {
                let k = lane_k4(k_start, c);
                for (var quad = 0u; quad < ROW_QUADS; quad++) {
                    let at = 4u * c * ROW_QUADS + quad;
                    sum[quad] += (q_tile[at] * k.x + q_tile[at + ROW_QUADS] * k.y) + (q_tile[at + 2u * ROW_QUADS] * k.z + q_tile[at + 3u * ROW_QUADS] * k.w);
                }
            }
            for (var quad = 0u; quad < ROW_QUADS; quad++) {
                if (PARTS == 1u) {
                    s_tile[quad * TILE_K + base + lane] = sum[quad];
                } else {
                    lane_tile[lane] = sum[quad];
                    workgroupBarrier();
                    if (lane < KEYS) {
                        var s = lane_tile[lane * PARTS];
                        for (var part = 1u; part < PARTS; part++) { s += lane_tile[lane * PARTS + part]; }
                        s_tile[quad * TILE_K + base + lane] = s;
                    }
                    workgroupBarrier();
                }
            }
        }
        workgroupBarrier();
        var top = vec4<f32>(SCORE_FLOOR);
        for (var t = lane / ROW_QUADS; t < count; t += LANES / ROW_QUADS) {
            let at = quad_own * TILE_K + t;
            var s = s_tile[at];
            if (PLAIN == 0u || mixed) {
                if (first + t >= keys.x && 4u * quad_own < rows) {
                    s = finish4(s, batch, kv_head, 4u * quad_own, rows, first + t);
                } else {
                    s = vec4<f32>(MASKED);
                }
            }
            nan |= poison_of(s);
            s = floored(s);
            s_tile[at] = s;
            top = max(top, s);
        }

        // m, and what came before in its terms; in two steps
        lane_tile[lane] = top;
        workgroupBarrier();
        if (lane < FOLDED) {
            for (var n = lane + FOLDED; n < LANES; n += FOLDED) { top = max(top, lane_tile[n]); }
            fold_tile[lane] = top;
        }
        workgroupBarrier();
        var m_own = vec4<f32>(SCORE_FLOOR);
        for (var quad = 0u; quad < ROW_QUADS; quad++) {
            var next = m[quad];
            for (var n = quad; n < FOLDED; n += ROW_QUADS) { next = max(next, fold_tile[n]); }
            let shrink = exp_of4(m[quad] - next);
            l[quad] *= shrink;
            o[4u * quad] *= shrink.x;
            o[4u * quad + 1u] *= shrink.y;
            o[4u * quad + 2u] *= shrink.z;
            o[4u * quad + 3u] *= shrink.w;
            m[quad] = next;
            if (quad == quad_own) { m_own = next; }
        }
        // P
        for (var t = lane / ROW_QUADS; t < count; t += LANES / ROW_QUADS) {
            let at = quad_own * TILE_K + t;
            let s = s_tile[at];
            s_tile[at] = marked(exp_of4(s - m_own), s);
        }
        workgroupBarrier();
        // l, O; l in runs of 32 keys
        for (var start = lane / COLUMNS; start < count; start += 32u * KEY_LANES) {
            var run: array<vec4<f32>, ROW_QUADS>;
            for (var quad = 0u; quad < ROW_QUADS; quad++) { run[quad] = vec4<f32>(0.0); }
            for (var t = start; t < min(count, start + 32u * KEY_LANES); t += KEY_LANES) {
                let y = v4(v_row(batch, first + t, kv_head), c_own);
                for (var quad = 0u; quad < ROW_QUADS; quad++) {
                    let p = s_tile[quad * TILE_K + t];
                    run[quad] += weight(p);
                    let at = 4u * quad;
                    if (mixed) {
                        o[at] = select(o[at], o[at] + p.x * y, p.x >= 0.0);
                        o[at + 1u] = select(o[at + 1u], o[at + 1u] + p.y * y, p.y >= 0.0);
                        o[at + 2u] = select(o[at + 2u], o[at + 2u] + p.z * y, p.z >= 0.0);
                        o[at + 3u] = select(o[at + 3u], o[at + 3u] + p.w * y, p.w >= 0.0);
                    } else {
                        o[at] += p.x * y;
                        o[at + 1u] += p.y * y;
                        o[at + 2u] += p.z * y;
                        o[at + 3u] += p.w * y;
                    }
                }
            }
            for (var quad = 0u; quad < ROW_QUADS; quad++) { l[quad] += run[quad]; }
        }
    }

    // the lanes of a column together, row by row
    for (var row = 0u; row < 4u * ROW_QUADS; row++) {
        let part = part_at(batch, kv_head, split, row);
        workgroupBarrier();
        lane_tile[lane] = o[row];
        workgroupBarrier();
        if (row < rows && lane < V_CHUNKS) {
            var sum = lane_tile[lane];
            for (var n = 1u; n < KEY_LANES; n++) { sum += lane_tile[n * COLUMNS + lane]; }
            put_part(part, lane, sum);
        }
    }
    for (var quad = 0u; quad < ROW_QUADS; quad++) {
        workgroupBarrier();
        lane_tile[lane] = l[quad];
        workgroupBarrier();
        var l_all = lane_tile[0];
        for (var n = 1u; n < KEY_LANES; n++) { l_all += lane_tile[n * COLUMNS]; }
        workgroupBarrier();
        lane_tile[lane] = select(vec4<f32>(0.0), vec4<f32>(1.0), (nan != vec4<u32>(0u)) & vec4<bool>(quad == quad_own));
        workgroupBarrier();
        var nan_all = vec4<f32>(0.0);
        for (var n = quad; n < LANES; n += ROW_QUADS) { nan_all = max(nan_all, lane_tile[n]); }
        for (var r = 0u; r < 4u; r++) {
            if (lane == 0u && 4u * quad + r < rows) {
                end_part(part_at(batch, kv_head, split, 4u * quad + r), m[quad][r], l_all[r], nan_all[r] != 0.0);
            }
        }
    }
}
