// C = A B, 4096 x 4096 in f32: 128 x 128 of C a workgroup of 256 lanes, 8 x 8 a lane, 8 of the inner dimension at a time
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
const N4: u32 = 1024u;
var<workgroup> sa: array<vec4<f32>, 256>;
var<workgroup> sb: array<vec4<f32>, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) w: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = lane / 16u;
    let column = lane % 16u;
    var p: array<vec4<f32>, 16>;
    for (var k = 0u; k < N4; k += 2u) {
        let x = a[(w.y * 128u + lane / 2u) * N4 + k + lane % 2u];
        let y = b[(4u * k + lane / 32u) * N4 + w.x * 32u + lane % 32u];
        workgroupBarrier();
        // A by columns
        let at = (lane % 2u) * 4u * 32u + lane / 8u;
        let e = (lane / 2u) % 4u;
        sa[at][e] = x.x; sa[at + 32u][e] = x.y; sa[at + 64u][e] = x.z; sa[at + 96u][e] = x.w;
        sb[lane] = y;
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let a0 = sa[i * 32u + 2u * row];
            let a1 = sa[i * 32u + 2u * row + 1u];
            let b0 = sb[i * 32u + 2u * column];
            let b1 = sb[i * 32u + 2u * column + 1u];
            p[0] = fma(vec4<f32>(a0.x), b0, p[0]); p[1] = fma(vec4<f32>(a0.x), b1, p[1]);
            p[2] = fma(vec4<f32>(a0.y), b0, p[2]); p[3] = fma(vec4<f32>(a0.y), b1, p[3]);
            p[4] = fma(vec4<f32>(a0.z), b0, p[4]); p[5] = fma(vec4<f32>(a0.z), b1, p[5]);
            p[6] = fma(vec4<f32>(a0.w), b0, p[6]); p[7] = fma(vec4<f32>(a0.w), b1, p[7]);
            p[8] = fma(vec4<f32>(a1.x), b0, p[8]); p[9] = fma(vec4<f32>(a1.x), b1, p[9]);
            p[10] = fma(vec4<f32>(a1.y), b0, p[10]); p[11] = fma(vec4<f32>(a1.y), b1, p[11]);
            p[12] = fma(vec4<f32>(a1.z), b0, p[12]); p[13] = fma(vec4<f32>(a1.z), b1, p[13]);
            p[14] = fma(vec4<f32>(a1.w), b0, p[14]); p[15] = fma(vec4<f32>(a1.w), b1, p[15]);
        }
    }
    for (var r = 0u; r < 8u; r++) {
        let to = (w.y * 128u + row * 8u + r) * N4 + w.x * 32u + 2u * column;
        c[to] = p[2u * r];
        c[to + 1u] = p[2u * r + 1u];
    }
}
