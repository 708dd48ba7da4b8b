// Values of `coop`, by columns. What is not finite becomes 0, which the end of the tile says (see common/tile_rows.wgsl); keys of a tile beyond the last
// one are 0 too: they meet weights of 0.
//
// grid       tiles of TILE_K keys  x  kv heads  x  batch
// workgroup  UNIT_LANES lanes: a unit is four columns of four keys, neighbours are the same columns of the tile's keys

@compute @workgroup_size(UNIT_LANES)
fn prepare_v(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let batch = chunk.batch + workgroup.z;
    let kv_head = chunk.kv_head + workgroup.y;
    let first = workgroup.x * TILE_K;
    if (first >= kv_length(batch)) { return; }                             // the same for the whole workgroup
    let values = prepared_k_tile(batch, kv_head, workgroup.x) + K_FOURS;
    if (lane == 0u) { atomicStore(&stray, 0u); }
    workgroupBarrier();
    for (var unit = lane; unit < TILE_K / 4u * V_CHUNKS; unit += UNIT_LANES) {
        let key4 = unit % (TILE_K / 4u);
        let c = unit / (TILE_K / 4u);
        let j = first + 4u * key4;
        let columns = transpose(mat4x4<f32>(
            finite_value4(batch, kv_head, j, c), finite_value4(batch, kv_head, j + 1u, c),
            finite_value4(batch, kv_head, j + 2u, c), finite_value4(batch, kv_head, j + 3u, c)));
        let to = values + c * TILE_K + key4;
        work_half[to] = vec4<f16>(columns[0]);
        work_half[to + TILE_K / 4u] = vec4<f16>(columns[1]);
        work_half[to + TILE_K / 2u] = vec4<f16>(columns[2]);
        work_half[to + TILE_K / 4u * 3u] = vec4<f16>(columns[3]);
    }
    workgroupBarrier();
    if (lane < 2u) { work_half[values + V_FOURS + lane] = vec4<f16>(f16(atomicLoad(&stray))); }
}

// Columns 4c.. of a value; 0 beyond the last.
fn finite_value4(batch: u32, kv_head: u32, j: u32, c: u32) -> vec4<f32> {
    if (j >= kv_length(batch)) { return vec4<f32>(0.0); }
    let x = v4(v_row(batch, j, kv_head), c);
    let beyond = is_beyond4(x);
    if (any(beyond)) { atomicOr(&stray, 1u); }
    return select(x, vec4<f32>(0.0), beyond);
}
