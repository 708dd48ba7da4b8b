// Terms that depend on the head and the distance alone, where the rows of a lane are four tokens of one head one after the other:
// all scores on a diagonal share them, so a lane needs 35, not 128. Through workgroup memory: registers have no index.
// 4 bytes x (TILE_K + 3) a lane.
var<workgroup> term_tile: array<f32, (TILE_K + 3u) * LANES>;

fn epilogue(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {
    // diagonal n: key first + n - 3 of row a; before the first key there are distances, if no keys
    for (var n = 0u; n < count + 3u; n++) {
        to_key(at, first + n - 3u);
        term_tile[n * LANES + lane] = score_terms((*at).a);
    }
    let t0 = term_tile[lane];
    let t1 = term_tile[1u * LANES + lane];
    let t2 = term_tile[2u * LANES + lane];
    let t3 = term_tile[3u * LANES + lane];
    let t4 = term_tile[4u * LANES + lane];
    let t5 = term_tile[5u * LANES + lane];
    let t6 = term_tile[6u * LANES + lane];
    (*s).a = capped((*s).a) + mat4x4<f32>(vec4<f32>(t3, t2, t1, t0), vec4<f32>(t4, t3, t2, t1), vec4<f32>(t5, t4, t3, t2), vec4<f32>(t6, t5, t4, t3));
    let t7 = term_tile[7u * LANES + lane];
    let t8 = term_tile[8u * LANES + lane];
    let t9 = term_tile[9u * LANES + lane];
    let t10 = term_tile[10u * LANES + lane];
    (*s).b = capped((*s).b) + mat4x4<f32>(vec4<f32>(t7, t6, t5, t4), vec4<f32>(t8, t7, t6, t5), vec4<f32>(t9, t8, t7, t6), vec4<f32>(t10, t9, t8, t7));
    let t11 = term_tile[11u * LANES + lane];
    let t12 = term_tile[12u * LANES + lane];
    let t13 = term_tile[13u * LANES + lane];
    let t14 = term_tile[14u * LANES + lane];
    (*s).c = capped((*s).c) + mat4x4<f32>(vec4<f32>(t11, t10, t9, t8), vec4<f32>(t12, t11, t10, t9), vec4<f32>(t13, t12, t11, t10), vec4<f32>(t14, t13, t12, t11));
    let t15 = term_tile[15u * LANES + lane];
    let t16 = term_tile[16u * LANES + lane];
    let t17 = term_tile[17u * LANES + lane];
    let t18 = term_tile[18u * LANES + lane];
    (*s).d = capped((*s).d) + mat4x4<f32>(vec4<f32>(t15, t14, t13, t12), vec4<f32>(t16, t15, t14, t13), vec4<f32>(t17, t16, t15, t14), vec4<f32>(t18, t17, t16, t15));
    let t19 = term_tile[19u * LANES + lane];
    let t20 = term_tile[20u * LANES + lane];
    let t21 = term_tile[21u * LANES + lane];
    let t22 = term_tile[22u * LANES + lane];
    (*s).e = capped((*s).e) + mat4x4<f32>(vec4<f32>(t19, t18, t17, t16), vec4<f32>(t20, t19, t18, t17), vec4<f32>(t21, t20, t19, t18), vec4<f32>(t22, t21, t20, t19));
    let t23 = term_tile[23u * LANES + lane];
    let t24 = term_tile[24u * LANES + lane];
    let t25 = term_tile[25u * LANES + lane];
    let t26 = term_tile[26u * LANES + lane];
    (*s).f = capped((*s).f) + mat4x4<f32>(vec4<f32>(t23, t22, t21, t20), vec4<f32>(t24, t23, t22, t21), vec4<f32>(t25, t24, t23, t22), vec4<f32>(t26, t25, t24, t23));
    let t27 = term_tile[27u * LANES + lane];
    let t28 = term_tile[28u * LANES + lane];
    let t29 = term_tile[29u * LANES + lane];
    let t30 = term_tile[30u * LANES + lane];
    (*s).g = capped((*s).g) + mat4x4<f32>(vec4<f32>(t27, t26, t25, t24), vec4<f32>(t28, t27, t26, t25), vec4<f32>(t29, t28, t27, t26), vec4<f32>(t30, t29, t28, t27));
    let t31 = term_tile[31u * LANES + lane];
    let t32 = term_tile[32u * LANES + lane];
    let t33 = term_tile[33u * LANES + lane];
    let t34 = term_tile[34u * LANES + lane];
    (*s).h = capped((*s).h) + mat4x4<f32>(vec4<f32>(t31, t30, t29, t28), vec4<f32>(t32, t31, t30, t29), vec4<f32>(t33, t32, t31, t30), vec4<f32>(t34, t33, t32, t31));
}
