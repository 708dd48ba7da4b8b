// lse of the rows of a tile of `coop`: `main`, whose `work_half` holds no f32, leaves the four bytes of each in `work`, as whole numbers; store_lse puts them
// together where the caller finds them.
//
// grid       that of `main`
// workgroup  TILE_Q lanes, one row each

@compute @workgroup_size(TILE_Q)
fn store_lse(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at_tile = tile_at(workgroup.x, workgroup.z);
    let batch = at_tile.x;
    let kv_head = chunk.kv_head + workgroup.y;
    let packed = at_tile.y * TILE_Q + lane;
    if (packed >= q_length(batch) * params.group) { return; }
    let head = kv_head * params.group + packed % params.group;
    let row = (tensor_batch(batch) * params.num_heads + head) * params.q_capacity + q_token(batch, packed / params.group);
    let at = params.partials + 2u * (tile_place(workgroup.x, kv_head, workgroup.z) * TILE_Q + lane);
    let low = vec2<u32>(unpack2x16float(bitcast<u32>(work[at])) - vec2<f32>(BYTE));
    let high = vec2<u32>(unpack2x16float(bitcast<u32>(work[at + 1u])) - vec2<f32>(BYTE));
    work[params.lse_offset + row] = bitcast<f32>(low.x | (low.y << 8u) | (high.x << 16u) | (high.y << 24u));
}

// Numbers from here on are whole in f16, and none of their bits are those of a subnormal or a NaN, whatever they are read as.
const BYTE: f32 = 1024.0;

// Of row `row` of all tiles.
fn put_lse(row: u32, lse: f32) {
    let bytes = (vec4<u32>(bitcast<u32>(lse)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
    work_half[params.partials / 2u + row] = vec4<f16>(vec4<f32>(bytes) + vec4<f32>(BYTE));
}
