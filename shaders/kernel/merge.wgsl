// merge: attention over parts of a row's keys becomes attention over all of them. Behind `attention`, once for each part.
//
//   m = max lse_p,  w_p = exp(lse_p - m),  l = sum w_p
//   out = sum w_p out_p / l,  lse = m + ln l                              over the parts p in their order
//
// A part of which a row sees no key is left out, whatever its rows hold; a row that no part sees is 0, with lse = MASKED. A part whose lse is
// NaN makes the row NaN. Entry p of `rotary` says where the rows of part p start in `q` and their strides of batch, token and head; entry 128 + p
// the same of its lse in `tables`.
//
// grid       4 TILE_Q columns of all heads  x  tokens  x  batch, offset by `chunk`
// workgroup  TILE_Q lanes, four columns each

fn part_lse(part: u32, batch: u32, i: u32, head: u32) -> f32 {
    let place = rotary[LSE_ENTRY + part];
    return tables[place.x + batch * place.y + i * place.z + head * place.w];
}
// No score is below SCORE_FLOOR, and no lse of a row that sees a key.
fn is_seen(lse: f32) -> bool { return lse > 0.5 * MASKED; }
fn weight(lse: f32, m: f32) -> f32 { return exp2(max((lse - m) * LOG2_E, -200.0)); }

@compute @workgroup_size(TILE_Q)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let i = chunk.kv_head + workgroup.y;
    let column = (chunk.tile + workgroup.x) * TILE_Q + lane;
    let head = column / HEAD_CHUNKS;
    let c = column % HEAD_CHUNKS;
    if (i >= min(step[0], params.q_capacity) || head >= params.num_heads) { return; }

    var m = MASKED;
    var is_row_nan = false;
    for (var part = 0u; part < params.splits; part++) {
        let lse = part_lse(part, batch, i, head);
        is_row_nan = is_row_nan || poisoned(lse);
        m = max(m, lse);
    }
    var l = 0.0;
    var o = vec4<f32>(0.0);
    for (var part = 0u; part < params.splits; part++) {
        let lse = part_lse(part, batch, i, head);
        if (is_seen(lse)) {
            let w = weight(lse, m);
            let place = rotary[part];
            l += w;
            o += w * q4(params.q_offset + place.x + batch * place.y + i * place.z + head * place.w, c);
        }
    }
    let any = l > 0.0;
    let nan = bitcast<f32>(0x7fc00000u | (lane & 0u));                     // not a constant: WGSL refuses a constant NaN
    let inv_l = select(select(0.0, 1.0 / l, any), nan, is_row_nan);
    let out_start = params.out_offset + batch * params.out_batch + i * params.out_token + head * params.out_head;
    put4(out_start, c, o * inv_l);
    if (c == 0u) {
        let row = (batch * params.num_heads + head) * params.q_capacity + i;
        work[params.lse_offset + row] = select(select(MASKED, m + ln_f32(l), any), nan, is_row_nan);
    }
}
