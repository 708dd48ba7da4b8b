// C = A B, 4096 x 4096 in f32: 32 x 32 of C a workgroup of 1024 lanes, one a lane, 32 of the inner dimension at a time
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
const N: u32 = 4096u;
var<workgroup> sa: array<f32, 1024>;
var<workgroup> sb: array<f32, 1024>;
@compute @workgroup_size(1024)
fn main(@builtin(workgroup_id) w: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = lane / 32u;
    let column = lane % 32u;
    var p = 0.0;
    for (var k = 0u; k < N; k += 32u) {
        sa[lane] = a[(w.y * 32u + row) * N + k + column];
        sb[lane] = b[(k + row) * N + w.x * 32u + column];
        workgroupBarrier();
        for (var i = 0u; i < 32u; i++) { p = fma(sa[row * 32u + i], sb[i * 32u + column], p); }
        workgroupBarrier();
    }
    c[(w.y * 32u + row) * N + w.x * 32u + column] = p;
}
