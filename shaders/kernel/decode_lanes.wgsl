// decode_lanes: attention of few rows over many keys, for devices whose invocations are lanes of a vector register (software adapters
// with subgroups of 8).
//
//   S = Q K^T: a lane owns 4 of 32 keys       O += P V: a lane owns 4 of 32 columns
//
// Such a device pays for every load of a lane by itself, and little for taking a neighbour's register. So each element of k and v is
// loaded by one lane, once for the four rows of a quad; q and P go round by broadcasts.
//
// grid       splits of SPLIT_KEYS keys  x  kv heads  x  batch, offset by `chunk`
// workgroup  LANES = 8 lanes, one subgroup
// before     prepare_q, prepare_k: see prepare.wgsl            after     combine: see combine.wgsl
// shared     o, l, m of ROW_QUADS quads of rows; the weights of a tile
//
//   for each tile of 32 keys of the split that some row can see, for each quad of rows
//       S <- sum over c of q(4 rows x 4 elements) k(4 elements x 4 keys of the lane)      HEAD_CHUNKS + 3 additions deep
//       S <- terms(S); unseen scores are marked                                            (1) by index
//       m' <- max(m, S) over lanes;  P <- exp(S - m');  l <- l exp(m - m') + sum P         (2) one rescale a tile; l by lane
//       o <- o exp(m - m') + P V                                                           (3) unseen keys are skipped where there are any
//   o, m, l to `work`: one part of the row

const LANES: u32 = 8u;
const V_GROUPS: u32 = (V_CHUNKS + LANES - 1u) / LANES;
var<workgroup> o_tile: array<vec4<f32>, ROW_QUADS * V_GROUPS * 4u * LANES>;
var<workgroup> m_tile: array<vec4<f32>, ROW_QUADS * LANES>;
var<workgroup> l_tile: array<vec4<f32>, ROW_QUADS * LANES>;
var<workgroup> nan_tile: array<vec4<u32>, ROW_QUADS * LANES>;
var<workgroup> p_tile: array<vec4<f32>, TILE_K>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let split = chunk.tile + workgroup.x;
    let rows = q_length(batch) * params.group;
    if (rows == 0u) { return; }                                            // the same for the whole workgroup
    let keys = split_keys(batch, rows, split);
    if (keys.x >= keys.y) { return; }
    let clear = full_range(batch, 0u, (rows - 1u) / params.group);
    let quads = (rows + 3u) / 4u;
    let q_start = prepared_q_tile(batch, kv_head, chunk.tile);
    let groups = (v_chunks() + LANES - 1u) / LANES;
    let halves = min(2u, 2u * v_chunks());                                 // 2, but no constant: the loop stays one

    for (var n = lane; n < quads * LANES; n += LANES) {
        m_tile[n] = vec4<f32>(SCORE_FLOOR);
        l_tile[n] = vec4<f32>(0.0);
        nan_tile[n] = vec4<u32>(0u);
    }
    for (var n = lane; n < quads * V_GROUPS * 4u * LANES; n += LANES) { o_tile[n] = vec4<f32>(0.0); }

    for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
        let end = min(first + TILE_K, keys.y);
        let mixed = first < clear.x || first + TILE_K > clear.y || first < keys.x || first + TILE_K > keys.y;
        let k0 = lane_k_row(batch, kv_head, min(first + lane, end - 1u));
        let k1 = lane_k_row(batch, kv_head, min(first + LANES + lane, end - 1u));
        let k2 = lane_k_row(batch, kv_head, min(first + 2u * LANES + lane, end - 1u));
        let k3 = lane_k_row(batch, kv_head, min(first + 3u * LANES + lane, end - 1u));
        let v_start = v_row(batch, first, kv_head);
        for (var quad = 0u; quad < quads; quad++) {
            let own = quad * LANES + lane;
            // S
            var s = mat4x4<f32>();
            for (var c = 0u; c < head_padded(); c += 4u) {
                let q = padded_q(q_start + 4u * quad, c + (lane & 3u));
                s += of_lane_0(q) * mat4x4<f32>(padded_k(k0, c), padded_k(k1, c), padded_k(k2, c), padded_k(k3, c));
                s += of_lane_1(q) * mat4x4<f32>(padded_k(k0, c + 1u), padded_k(k1, c + 1u), padded_k(k2, c + 1u), padded_k(k3, c + 1u));
                s += of_lane_2(q) * mat4x4<f32>(padded_k(k0, c + 2u), padded_k(k1, c + 2u), padded_k(k2, c + 2u), padded_k(k3, c + 2u));
                s += of_lane_3(q) * mat4x4<f32>(padded_k(k0, c + 3u), padded_k(k1, c + 3u), padded_k(k2, c + 3u), padded_k(k3, c + 3u));
            }
            if (PLAIN == 0u || mixed) { finish_keys(&s, batch, kv_head, 4u * quad, rows, first + lane, keys); }
            nan_tile[own] |= (nan_bits(s[0]) | nan_bits(s[1])) | (nan_bits(s[2]) | nan_bits(s[3]));
            s = mat4x4<f32>(floored(s[0]), floored(s[1]), floored(s[2]), floored(s[3]));

            // m, P, l
            let before = m_tile[own];
            let top = max(before, subgroupMax(max(max(s[0], s[1]), max(s[2], s[3]))));
            let shrink = exp_of4(before - top);
            var p = mat4x4<f32>(exp_of4(s[0] - top), exp_of4(s[1] - top), exp_of4(s[2] - top), exp_of4(s[3] - top));
            if (mixed) { p = mat4x4<f32>(marked(p[0], s[0]), marked(p[1], s[1]), marked(p[2], s[2]), marked(p[3], s[3])); }
            m_tile[own] = top;
            l_tile[own] = l_tile[own] * shrink + ((weight(p[0]) + weight(p[1])) + (weight(p[2]) + weight(p[3])));

            // O
            let o_start = quad * (V_GROUPS * 4u * LANES) + lane;
            if (mixed) {
                p_tile[lane] = p[0];
                p_tile[LANES + lane] = p[1];
                p_tile[2u * LANES + lane] = p[2];
                p_tile[3u * LANES + lane] = p[3];
                workgroupBarrier();
                for (var g = 0u; g < groups; g++) {
                    let at = o_start + g * (4u * LANES);
                    let c = min(g * LANES + lane, V_CHUNKS - 1u);
                    var o = mat4x4<f32>(o_tile[at] * shrink.x, o_tile[at + LANES] * shrink.y, o_tile[at + 2u * LANES] * shrink.z, o_tile[at + 3u * LANES] * shrink.w);
                    for (var j = max(first, keys.x); j < end; j++) {
                        let y = v4(v_row(batch, j, kv_head), c);
                        let w = p_tile[j - first];
                        o[0] = select(o[0], o[0] + w.x * y, w.x >= 0.0);
                        o[1] = select(o[1], o[1] + w.y * y, w.y >= 0.0);
                        o[2] = select(o[2], o[2] + w.z * y, w.z >= 0.0);
                        o[3] = select(o[3], o[3] + w.w * y, w.w >= 0.0);
                    }
                    o_tile[at] = o[0];
                    o_tile[at + LANES] = o[1];
                    o_tile[at + 2u * LANES] = o[2];
                    o_tile[at + 3u * LANES] = o[3];
                }
                workgroupBarrier();
            } else {
                // of the lane's keys as columns, the rows; and those of the lane 4 further
                let near = transpose(p);
                let far = mat4x4<f32>(subgroupShuffleXor(near[0], 4u), subgroupShuffleXor(near[1], 4u), subgroupShuffleXor(near[2], 4u), subgroupShuffleXor(near[3], 4u));
                for (var g = 0u; g < groups; g++) {
                    let at = o_start + g * (4u * LANES);
                    let c = min(g * LANES + lane, V_CHUNKS - 1u);
                    var o = mat4x4<f32>(o_tile[at] * shrink.x, o_tile[at + LANES] * shrink.y, o_tile[at + 2u * LANES] * shrink.z, o_tile[at + 3u * LANES] * shrink.w);
                    for (var half = 0u; half < halves; half++) {
                        let w = mat4x4<f32>(select(near[0], far[0], half == 1u), select(near[1], far[1], half == 1u), select(near[2], far[2], half == 1u), select(near[3], far[3], half == 1u));
                        let y = v_start + 4u * half * params.v_token;
                        o += four_values(y, c) * of_lane_0(w);
                        o += four_values(y + params.v_token, c) * of_lane_1(w);
                        o += four_values(y + 2u * params.v_token, c) * of_lane_2(w);
                        o += four_values(y + 3u * params.v_token, c) * of_lane_3(w);
                    }
                    o_tile[at] = o[0];
                    o_tile[at + LANES] = o[1];
                    o_tile[at + 2u * LANES] = o[2];
                    o_tile[at + 3u * LANES] = o[3];
                }
            }
        }
    }

    for (var quad = 0u; quad < quads; quad++) {
        let own = quad * LANES + lane;
        var l = l_tile[own];
        l += subgroupShuffleXor(l, 4u);
        l += subgroupShuffleXor(l, 2u);
        l += subgroupShuffleXor(l, 1u);
        var nan = nan_tile[own];
        nan |= subgroupShuffleXor(nan, 4u);
        nan |= subgroupShuffleXor(nan, 2u);
        nan |= subgroupShuffleXor(nan, 1u);
        let m = m_tile[own];
        for (var r = 0u; r < min(4u, rows - 4u * quad); r++) {
            let part = part_at(batch, kv_head, split, 4u * quad + r);
            for (var g = 0u; g < groups; g++) {
                let c = g * LANES + lane;
                if (c < V_CHUNKS) { put_part(part, c, o_tile[quad * (V_GROUPS * 4u * LANES) + (4u * g + r) * LANES + lane]); }
            }
            if (lane == 0u) { end_part(part, m[r], l[r], nan[r] != 0u); }
        }
    }
}

// Elements 4c..4c+3 (columns) of four rows of queries, 0 past the rows' end.
fn padded_q(start: u32, c: u32) -> mat4x4<f32> {
    let at = start + 4u * min(c, HEAD_CHUNKS - 1u) * TILE_Q;
    let q = mat4x4<f32>(prepared4(at), prepared4(at + TILE_Q), prepared4(at + 2u * TILE_Q), prepared4(at + 3u * TILE_Q));
    if (HEAD_PADDED == HEAD_CHUNKS) { return q; }
    return q * select(0.0, 1.0, c < HEAD_CHUNKS);
}
fn padded_k(row: u32, c: u32) -> vec4<f32> {
    if (HEAD_PADDED == HEAD_CHUNKS) { return lane_k4(row, c); }
    return select(vec4<f32>(0.0), lane_k4(row, min(c, HEAD_CHUNKS - 1u)), c < HEAD_CHUNKS);
}
// Values of every eighth key from the one whose row starts at `start`: the rows of a tile follow one another.
fn four_values(start: u32, c: u32) -> mat4x4<f32> {
    let next = LANES * params.v_token;
    return mat4x4<f32>(v4(start, c), v4(start + next, c), v4(start + 2u * next, c), v4(start + 3u * next, c));
}
fn of_lane_0(x: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(x[0], 0u), subgroupBroadcast(x[1], 0u), subgroupBroadcast(x[2], 0u), subgroupBroadcast(x[3], 0u));
}
fn of_lane_1(x: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(x[0], 1u), subgroupBroadcast(x[1], 1u), subgroupBroadcast(x[2], 1u), subgroupBroadcast(x[3], 1u));
}
fn of_lane_2(x: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(x[0], 2u), subgroupBroadcast(x[1], 2u), subgroupBroadcast(x[2], 2u), subgroupBroadcast(x[3], 2u));
}
fn of_lane_3(x: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(x[0], 3u), subgroupBroadcast(x[1], 3u), subgroupBroadcast(x[2], 3u), subgroupBroadcast(x[3], 3u));
}

// Four keys from j on, LANES apart, of the rows from `first_row` on.
fn finish_keys(s: ptr<function, mat4x4<f32>>, batch: u32, kv_head: u32, first_row: u32, rows: u32, first: u32, keys: vec2<u32>) {
    var finished = mat4x4<f32>(vec4<f32>(UNSEEN), vec4<f32>(UNSEEN), vec4<f32>(UNSEEN), vec4<f32>(UNSEEN));
    for (var n = 0u; n < 4u && first + n * LANES < keys.y; n++) {
        let j = first + n * LANES;
        if (j >= keys.x) { finished[n] = finish4((*s)[n], batch, kv_head, first_row, rows, j); }
    }
    *s = finished;
}
