// decode_lanes: attention of few rows over many keys, for devices whose invocations are lanes of a vector register (software adapters
// with subgroups of 8).
//
//   S = Q K^T: a lane owns 4 of 32 keys       O += P V: a lane owns 4 of 32 columns
//
// Such a device pays for every load of a lane by itself, and little for taking a neighbour's register. So each element of k and v is
// loaded by one lane, once for the four rows of a quad; q and P go round by broadcasts. No barriers: Mesa 22 and 25 keep no register
// across them.
//
// grid       splits of params.split_keys keys  x  kv heads  x  batch, offset by `chunk`
// workgroup  LANES = 8 lanes, one subgroup; quads of rows one after the other, the keys of a split being near by then
// before     prepare_q, or prepare_k too: see `prepare/`          after     combine: see combine.wgsl
// shared     o, 64 bytes a lane and 4 columns, read and written by the lane that owns it; scores while terms are added
//
//   for each tile of 32 keys of the split that some row can see
//       S <- sum over c of q(4 rows x 4 elements) k(4 elements x 4 keys of the lane)      HEAD_CHUNKS + 3 additions deep
//       S <- terms(S); masked scores are marked                                            (1) by index
//       m' <- max(m, S) over lanes;  P <- exp(S - m');  l <- l exp(m - m') + sum P         (2) one rescale a tile; l by lane
//       o <- o exp(m - m') + P V                                                           (3) masked keys are skipped where there are any
//   o, m, l to `work`: one part of the row

const LANES: u32 = 8u;
const V_GROUPS: u32 = (V_CHUNKS + LANES - 1u) / LANES;
var<workgroup> o_tile: array<vec4<f32>, V_GROUPS * 4u * LANES>;
var<workgroup> s_tile: array<vec4<f32>, TILE_K>;

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
    let q_start = prepared_q_tile(tile_place(0u, kv_head, workgroup.z));
    let groups = (v_chunks() + LANES - 1u) / LANES;
    let lanes = min(LANES, LANES * v_chunks());                            // LANES, but no constant: the loop stays one

    for (var quad = 0u; quad < quads; quad++) {
        for (var n = lane; n < groups * 4u * LANES; n += LANES) { o_tile[n] = vec4<f32>(0.0); }
        var m = vec4<f32>(SCORE_FLOOR);
        var l = vec4<f32>(0.0);
        var nan = vec4<u32>(0u);
        for (var first = keys.x / TILE_K * TILE_K; first < keys.y; first += TILE_K) {
            let end = min(first + TILE_K, keys.y);
            let mixed = first < clear.x || first + TILE_K > clear.y || first < keys.x || first + TILE_K > keys.y;
            let v_start = v_row(batch, first, kv_head);
            // S
            var s = lane_scores(q_start + 4u * quad, batch, kv_head, first, end, lane);
            if (PLAIN == 0u || mixed) {
                // through memory: registers have no index
                s_tile[lane] = s[0];
                s_tile[LANES + lane] = s[1];
                s_tile[2u * LANES + lane] = s[2];
                s_tile[3u * LANES + lane] = s[3];
                for (var at = lane; at < TILE_K; at += LANES) {
                    let t = s_tile[at];
                    let inside = first + at >= keys.x && first + at < end;
                    s_tile[at] = vec4<f32>(MASKED);
                    if (inside) { s_tile[at] = finish4(t, batch, kv_head, 4u * quad, rows, first + at); }
                }
                s = mat4x4<f32>(s_tile[lane], s_tile[LANES + lane], s_tile[2u * LANES + lane], s_tile[3u * LANES + lane]);
            }
            nan |= (poison_of(s[0]) | poison_of(s[1])) | (poison_of(s[2]) | poison_of(s[3]));
            s = mat4x4<f32>(floored(s[0]), floored(s[1]), floored(s[2]), floored(s[3]));

            // m, P, l
            let top = max(m, subgroupMax(max(max(s[0], s[1]), max(s[2], s[3]))));
            let shrink = exp_of4(m - top);
            var p = mat4x4<f32>(exp_of4(s[0] - top), exp_of4(s[1] - top), exp_of4(s[2] - top), exp_of4(s[3] - top));
            if (mixed) { p = mat4x4<f32>(marked(p[0], s[0]), marked(p[1], s[1]), marked(p[2], s[2]), marked(p[3], s[3])); }
            m = top;
            l = l * shrink + ((weight(p[0]) + weight(p[1])) + (weight(p[2]) + weight(p[3])));

            // O
            // of the lane's keys as columns, the rows; and those of the lane 4 further
            let near = transpose(p);
            let far = mat4x4<f32>(subgroupShuffleXor(near[0], 4u), subgroupShuffleXor(near[1], 4u), subgroupShuffleXor(near[2], 4u), subgroupShuffleXor(near[3], 4u));
            for (var g = 0u; g < groups; g++) {
                let at = g * (4u * LANES) + lane;
                let c = min(g * LANES + lane, V_CHUNKS - 1u);
                var o = mat4x4<f32>(o_tile[at] * shrink.x, o_tile[at + LANES] * shrink.y, o_tile[at + 2u * LANES] * shrink.z, o_tile[at + 3u * LANES] * shrink.w);
                if (mixed) {
                    for (var t = 0u; t < end - first; t++) {
                        o = add_seen(o, subgroupShuffle(column_of(p, t / LANES), t % LANES), v4(v_row(batch, first + t, kv_head), c));
                    }
                } else {
                    for (var t = 0u; t < lanes; t++) { o += four_values(v_start + t * params.v_token, c) * of_lane_0(from_lane(near, far, t)); }
                }
                o_tile[at] = o[0];
                o_tile[at + LANES] = o[1];
                o_tile[at + 2u * LANES] = o[2];
                o_tile[at + 3u * LANES] = o[3];
            }
        }
        l += subgroupShuffleXor(l, 4u);
        l += subgroupShuffleXor(l, 2u);
        l += subgroupShuffleXor(l, 1u);
        nan |= subgroupShuffleXor(nan, 4u);
        nan |= subgroupShuffleXor(nan, 2u);
        nan |= subgroupShuffleXor(nan, 1u);
        for (var r = 0u; r < min(4u, rows - 4u * quad); r++) {
            let part = part_at(batch, kv_head, split, 4u * quad + r);
            for (var g = 0u; g < groups; g++) {
                let c = g * LANES + lane;
                if (c < V_CHUNKS) { put_part(part, c, o_tile[(4u * g + r) * LANES + lane]); }
            }
            if (lane == 0u) { end_part(part, m[r], l[r], nan[r] != 0u); }
        }
    }
}

// The rows that see a key take its value.
fn add_seen(o: mat4x4<f32>, p: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        select(o[0], o[0] + p.x * y, p.x >= 0.0), select(o[1], o[1] + p.y * y, p.y >= 0.0),
        select(o[2], o[2] + p.z * y, p.z >= 0.0), select(o[3], o[3] + p.w * y, p.w >= 0.0));
}
// Elements 4c..4c+3 (columns) of four rows of queries, 0 past the rows' end.
fn padded_q(start: u32, c: u32) -> mat4x4<f32> {
    let at = start + 4u * min(c, HEAD_CHUNKS - 1u) * TILE_Q;
    let q = mat4x4<f32>(prepared4(at), prepared4(at + TILE_Q), prepared4(at + 2u * TILE_Q), prepared4(at + 3u * TILE_Q));
    if (HEAD_PADDED == HEAD_CHUNKS) { return q; }
    return q * select(0.0, 1.0, c < HEAD_CHUNKS);
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
// Of a matrix, what lane t holds comes to lane 0; `far` is `near` of the lane 4 further. One lane at a time keeps the loop small, and is
// faster than several too: Mesa 25 compiles it in half the time.
fn from_lane(near: mat4x4<f32>, far: mat4x4<f32>, t: u32) -> mat4x4<f32> {
    let four = either(near, far, t > 3u);
    let two = either(four, mat4x4<f32>(subgroupShuffleXor(four[0], 2u), subgroupShuffleXor(four[1], 2u), subgroupShuffleXor(four[2], 2u), subgroupShuffleXor(four[3], 2u)), (t & 2u) == 2u);
    return either(two, mat4x4<f32>(subgroupShuffleXor(two[0], 1u), subgroupShuffleXor(two[1], 1u), subgroupShuffleXor(two[2], 1u), subgroupShuffleXor(two[3], 1u)), (t & 1u) == 1u);
}
fn either(x: mat4x4<f32>, y: mat4x4<f32>, other: bool) -> mat4x4<f32> {
    return mat4x4<f32>(select(x[0], y[0], other), select(x[1], y[1], other), select(x[2], y[2], other), select(x[3], y[3], other));
}
// A column, without an index into a matrix, which a driver would spill for it.
fn column_of(x: mat4x4<f32>, i: u32) -> vec4<f32> { return select(select(x[3], x[2], i == 2u), select(x[1], x[0], i == 0u), i < 2u); }
