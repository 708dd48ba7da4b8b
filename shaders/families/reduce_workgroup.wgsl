// The lanes of a row exchange through workgroup memory: every device can.
struct TileTop { a: vec4<f32>, b: vec4<f32> }

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) { attend(workgroup, lane, lane); }

// The largest over the KEY_LANES lanes of the rows.
fn row_max(own: TileTop, row4: u32, key_lane: u32) -> TileTop {
    let at = row4 * (KEY_LANES + 1u);
    workgroupBarrier();                                      // the slices have been read
    slices[at + key_lane] = own.a;
    slices[at + KEY_LANES + 1u + key_lane] = own.b;
    workgroupBarrier();
    var top = own;
    for (var n = at; n < at + KEY_LANES; n++) {
        top.a = max(top.a, slices[n]);
        top.b = max(top.b, slices[n + KEY_LANES + 1u]);
    }
    return top;
}
