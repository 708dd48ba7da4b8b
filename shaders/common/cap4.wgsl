// The cap of 16 scores. NaN stay: a driver's comparisons may lose them.
fn capped(s: mat4x4<f32>) -> mat4x4<f32> { return mat4x4<f32>(capped4(s[0]), capped4(s[1]), capped4(s[2]), capped4(s[3])); }
fn capped4(t: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(cap(t.x), cap(t.y), cap(t.z), cap(t.w)), t, is_nan4(t));
}
