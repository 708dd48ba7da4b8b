// Terms of 4 rows x 32 keys, score by score in a loop, through workgroup memory: registers have no index.
// 16 bytes x TILE_K a lane.
var<workgroup> term_tile: array<vec4<f32>, TILE_K * LANES>;

fn finish(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {
    var rows_a: QueryRows;
    var rows_b: QueryRows;
    var rows_c: QueryRows;
    var rows_d: QueryRows;
    load_query_rows(&rows_a, 0u, (*at).a, (*at).packed.x);
    load_query_rows(&rows_b, 0u, (*at).b, (*at).packed.y);
    load_query_rows(&rows_c, 0u, (*at).c, (*at).packed.z);
    load_query_rows(&rows_d, 0u, (*at).d, (*at).packed.w);
    for (var t = 0u; t < count; t++) {
        to_key(at, first + t);
        term_tile[t * LANES + lane] = vec4<f32>(
            relative_terms(&rows_a, (*at).a) + score_terms((*at).a), relative_terms(&rows_b, (*at).b) + score_terms((*at).b),
            relative_terms(&rows_c, (*at).c) + score_terms((*at).c), relative_terms(&rows_d, (*at).d) + score_terms((*at).d));
    }
    (*s).a = capped((*s).a) + terms4(lane, 0u); (*s).b = capped((*s).b) + terms4(lane, 4u);
    (*s).c = capped((*s).c) + terms4(lane, 8u); (*s).d = capped((*s).d) + terms4(lane, 12u);
    (*s).e = capped((*s).e) + terms4(lane, 16u); (*s).f = capped((*s).f) + terms4(lane, 20u);
    (*s).g = capped((*s).g) + terms4(lane, 24u); (*s).h = capped((*s).h) + terms4(lane, 28u);
}
// Keys t to t + 3; those beyond `count` were not written, and no row sees them.
fn terms4(lane: u32, t: u32) -> mat4x4<f32> {
    let at = t * LANES + lane;
    return mat4x4<f32>(term_tile[at], term_tile[at + LANES], term_tile[at + 2u * LANES], term_tile[at + 3u * LANES]);
}
