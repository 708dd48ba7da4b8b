// The lanes of a row exchange within subgroups of SUBGROUP lanes (4 to 128): REDUCED = min(SUBGROUP, KEY_LANES) of them at once, and
// through workgroup memory where a row has more lanes than that.
struct TileTop { a: vec4<f32>, b: vec4<f32> }

var<workgroup> subgroups: atomic<u32>;

// Nothing says which local indices a subgroup holds, nor in which order: subgroups number themselves, and any numbering serves. Where
// limits state another size than the device's, lanes stay below LANES: results are wrong then, accesses are not.
@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
) {
    if (index == 0u) { atomicStore(&subgroups, 0u); }
    workgroupBarrier();
    var number = 0u;
    if (invocation == 0u) { number = atomicAdd(&subgroups, 1u); }
    attend(workgroup, min(subgroupBroadcast(number, 0u) * SUBGROUP + invocation, LANES - 1u), index);
}

// The largest over the KEY_LANES lanes of the rows.
fn row_max(own: TileTop, row4: u32, key_lane: u32) -> TileTop {
    var top = own;
    top = tile_larger(top, TileTop(subgroupShuffleXor(top.a, 1u), subgroupShuffleXor(top.b, 1u)));
    top = tile_larger(top, TileTop(subgroupShuffleXor(top.a, 2u), subgroupShuffleXor(top.b, 2u)));
    if (REDUCED > 4u) { top = tile_larger(top, TileTop(subgroupShuffleXor(top.a, 4u), subgroupShuffleXor(top.b, 4u))); }
    if (REDUCED > 8u) { top = tile_larger(top, TileTop(subgroupShuffleXor(top.a, 8u), subgroupShuffleXor(top.b, 8u))); }
    if (REDUCED > 16u) { top = tile_larger(top, TileTop(subgroupShuffleXor(top.a, 16u), subgroupShuffleXor(top.b, 16u))); }
    if (REDUCED < KEY_LANES) {
        let at = row4 * (KEY_LANES + 1u);
        workgroupBarrier();                                  // the slices have been read
        if (key_lane % REDUCED == 0u) {
            slices[at + key_lane] = top.a;
            slices[at + KEY_LANES + 1u + key_lane] = top.b;
        }
        workgroupBarrier();
        for (var n = at; n < at + KEY_LANES; n += REDUCED) {
            top = tile_larger(top, TileTop(slices[n], slices[n + KEY_LANES + 1u]));
        }
    }
    return top;
}
fn tile_larger(x: TileTop, y: TileTop) -> TileTop { return TileTop(max(x.a, y.a), max(x.b, y.b)); }
