// Terms that depend on the head and the distance alone, where the rows of a lane are four tokens of one head one after the other: the
// next key's terms are this one's, a row later, and one new. Through workgroup memory: registers have no index. 16 bytes x TILE_K a lane.
var<workgroup> term_tile: array<vec4<f32>, TILE_K * LANES>;

fn finish(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {
    to_key(at, first);
    var terms = vec4<f32>(score_terms((*at).a), score_terms((*at).b), score_terms((*at).c), score_terms((*at).d));
    term_tile[lane] = terms;
    for (var t = 1u; t < count; t++) {
        to_key(at, first + t);
        terms = vec4<f32>(score_terms((*at).a), terms.x, terms.y, terms.z);
        term_tile[t * LANES + lane] = terms;
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
