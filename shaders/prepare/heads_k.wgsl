// See prepare/heads_q.wgsl.
@compute @workgroup_size(UNIT_LANES)
fn prepare_k(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let index = workgroup.x * UNIT_LANES + lane;
    let j = index / (ACROSS * UNITS) * ACROSS + across(index % ACROSS);
    let unit = index / ACROSS % UNITS;
    if (j >= kv_length(batch)) { return; }
    let place = unit_of(unit);
    let turn = turns_of(k_positions(batch, j), unit, -1.0);
    for (var h = 0u; h < chunk.kv_heads + unseen_zero(); h++) {
        let source = k_row(batch, j, chunk.kv_head + h);
        let start = prepared_k_row(batch, chunk.kv_head + h, j);
        if (unit >= QUADS) {
            put_key4(start, place.z, k4(source, place.x));
        } else {
            let x = quad_apart(k4(source, place.x), k4(source, place.y));
            let y = quad_together(x[0] * turn[0] - x[1] * turn[1], x[0] * turn[1] + x[1] * turn[0]);
            put_key4(start, place.z, y[0]);
            put_key4(start, place.w, y[1]);
        }
    }
}
