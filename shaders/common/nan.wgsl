// By bits: drivers fold x != x, and WGSL lets a compiler assume that no float is NaN or infinite.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_nan4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }
// NaN, +inf or -inf.
fn is_beyond4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u); }

// A score that makes every row that sees it NaN: NaN or +inf. -inf is a score below SCORE_FLOOR.
fn poisoned(s: f32) -> bool { return is_nan(s) || bitcast<u32>(s) == 0x7f800000u; }
fn poisoned4(s: vec4<f32>) -> vec4<bool> { return is_nan4(s) | (bitcast<vec4<u32>>(s) == vec4<u32>(0x7f800000u)); }
