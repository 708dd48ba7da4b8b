// New rows, one element at a time: any strides and offsets. Elements past the row's end read as 0.
fn new_k4(row: u32, c: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    for (var e = 0u; e < min(4u, HEAD_DIM - 4u * c); e++) {
        let element = row + 4u * c + e;
        x[e] = new_k_unpack1(new_k[new_k_word_of(element)], element);
    }
    return x;
}
fn new_v4(row: u32, c: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    for (var e = 0u; e < min(4u, V_HEAD_DIM - 4u * c); e++) {
        let element = row + 4u * c + e;
        x[e] = new_v_unpack1(new_v[new_v_word_of(element)], element);
    }
    return x;
}
