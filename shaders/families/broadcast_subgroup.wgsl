// Eight keys at a time, by subgroups of 8 or more: lane t holds elements of key t % 8, and takes the others' from their registers.
fn eighth(lane: u32) -> u32 { return lane & 7u; }
fn low(x: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
}
fn high(x: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
}
fn any_lane(x: bool) -> bool { return subgroupAny(x); }
