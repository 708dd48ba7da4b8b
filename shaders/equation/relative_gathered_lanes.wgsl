// As equation/relative_gathered.wgsl, for the family `lanes`: products with the rows of a table are made like those with keys, four rows of
// queries (or keys) a lane, 32 rows of the table at a time, out of the neighbours' registers.
// grid       relative_queries: that of `main`;  relative_keys: tiles of TILE_Q keys  x  kv heads  x  batch
// workgroup  LANES lanes, one subgroup, four rows or keys each

@compute @workgroup_size(LANES)
fn relative_queries(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let first = (chunk.tile + workgroup.x) * TILE_Q;
    let rows = q_length(batch) * params.group;
    if (first >= rows) { return; }                                         // the same for the whole workgroup
    let all = vec4<u32>(first + 4u * lane) + vec4<u32>(0u, 1u, 2u, 3u);
    let packed = min(all, vec4<u32>(rows - 1u));
    let head = kv_head * params.group;
    let i = packed / params.group;
    let h = packed % params.group + vec4<u32>(head);
    let source = vec4<u32>(q_row(batch, i.x, h.x), q_row(batch, i.y, h.y), q_row(batch, i.z, h.z), q_row(batch, i.w, h.w));
    let results = vec4<u32>(query_products(batch, kv_head, packed.x), query_products(batch, kv_head, packed.y),
        query_products(batch, kv_head, packed.z), query_products(batch, kv_head, packed.w));
    multiply_queries(Multiplied(source, results, all < vec4<u32>(rows), lane), head);
}

@compute @workgroup_size(LANES)
fn relative_keys(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let first = workgroup.x * TILE_Q;
    let keys = kv_length(batch);
    if (first >= keys) { return; }                                         // the same for the whole workgroup
    let all = vec4<u32>(first + 4u * lane) + vec4<u32>(0u, 1u, 2u, 3u);
    let j = min(all, vec4<u32>(keys - 1u));
    let source = vec4<u32>(k_row(batch, j.x, kv_head), k_row(batch, j.y, kv_head), k_row(batch, j.z, kv_head), k_row(batch, j.w, kv_head));
    let results = vec4<u32>(key_products(batch, kv_head, j.x), key_products(batch, kv_head, j.y),
        key_products(batch, kv_head, j.z), key_products(batch, kv_head, j.w));
    multiply_keys(Multiplied(source, results, all < vec4<u32>(keys), lane), kv_head);
}

// Four rows, where their products go, and which of them are rows at all.
struct Multiplied { source: vec4<u32>, results: vec4<u32>, stored: vec4<bool>, lane: u32 }
// Rows of a table: the first, words from one to the next, how many; what its products are multiplied by, where they go in a row's.
struct Multiplier { start: u32, stride: u32, rows: u32, scale: f32, offset: u32 }
const NO_BIAS: u32 = 0xffffffffu;

fn multiply_q(m: Multiplied, by: Multiplier, bias: u32) {
    for (var r = 0u; r < by.rows + unseen_zero(); r += 32u) {
        var s = no_products();
        for (var c = 0u; c < head_chunks(); c++) {
            var v = vec4<f32>(0.0);
            if (bias != NO_BIAS) { v = table4(bias, c, HEAD_DIM); }
            let q = transpose(mat4x4<f32>(q4(m.source.x, c) + v, q4(m.source.y, c) + v, q4(m.source.z, c) + v, q4(m.source.w, c) + v));
            add_products(&s, q, by, r, c, m.lane);
        }
        store_products(&s, m, by, r);
    }
}
fn multiply_k(m: Multiplied, by: Multiplier) {
    for (var r = 0u; r < by.rows + unseen_zero(); r += 32u) {
        var s = no_products();
        for (var c = 0u; c < head_chunks(); c++) {
            let q = transpose(mat4x4<f32>(k4(m.source.x, c), k4(m.source.y, c), k4(m.source.z, c), k4(m.source.w, c)));
            add_products(&s, q, by, r, c, m.lane);
        }
        store_products(&s, m, by, r);
    }
}

fn no_products() -> Scores {
    return Scores(mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>());
}
fn add_products(s: ptr<function, Scores>, q: mat4x4<f32>, by: Multiplier, r: u32, c: u32, lane: u32) {
    let last = by.rows - 1u;
    let x0 = table4(by.start + min(r + eighth(lane), last) * by.stride, c, HEAD_DIM);
    (*s).a += q * low(x0); (*s).b += q * high(x0);
    let x1 = table4(by.start + min(r + 8u + eighth(lane), last) * by.stride, c, HEAD_DIM);
    (*s).c += q * low(x1); (*s).d += q * high(x1);
    let x2 = table4(by.start + min(r + 16u + eighth(lane), last) * by.stride, c, HEAD_DIM);
    (*s).e += q * low(x2); (*s).f += q * high(x2);
    let x3 = table4(by.start + min(r + 24u + eighth(lane), last) * by.stride, c, HEAD_DIM);
    (*s).g += q * low(x3); (*s).h += q * high(x3);
}
fn store_products(s: ptr<function, Scores>, m: Multiplied, by: Multiplier, r: u32) {
    let count = min(32u, by.rows - r);
    for (var g = 0u; 4u * g < count; g++) {
        var four = (*s).a;
        for (var x = 0u; x < min(4u, count - 4u * g); x++) {
            let t = by.scale * four[0];
            let at = m.results + vec4<u32>(by.offset + r + 4u * g + x);
            if (m.stored.x) { work[at.x] = t.x; }
            if (m.stored.y) { work[at.y] = t.y; }
            if (m.stored.z) { work[at.z] = t.z; }
            if (m.stored.w) { work[at.w] = t.w; }
            four = mat4x4<f32>(four[1], four[2], four[3], four[0]);
        }
        *s = Scores((*s).b, (*s).c, (*s).d, (*s).e, (*s).f, (*s).g, (*s).h, (*s).a);
    }
}

// Where the products of a row, and of a key, stand in `work`.
fn query_products(batch: u32, kv_head: u32, packed: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.query_products + (part * chunk.tiles * TILE_Q + packed - chunk.tile * TILE_Q) * QUERY_PRODUCTS;
}
fn key_products(batch: u32, kv_head: u32, j: u32) -> u32 {
    let part = (batch - chunk.batch) * chunk.kv_heads + kv_head - chunk.kv_head;
    return params.key_products + (part * params.kv_capacity + j) * KEY_PRODUCTS;
}
