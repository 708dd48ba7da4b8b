// Score by score: cap, A and B, terms, the user's function. Registers have no index, so they move on instead: a loop works at the
// first four keys and puts them last, another likewise with the four; after all rounds each is where it was. No memory.
fn epilogue(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {
    var rows_a: QueryRows;
    var rows_b: QueryRows;
    var rows_c: QueryRows;
    var rows_d: QueryRows;
    load_query_rows(&rows_a, 0u, (*at).a, (*at).packed.x);
    load_query_rows(&rows_b, 0u, (*at).b, (*at).packed.y);
    load_query_rows(&rows_c, 0u, (*at).c, (*at).packed.z);
    load_query_rows(&rows_d, 0u, (*at).d, (*at).packed.w);
    for (var g = 0u; g < 8u + unseen_zero(); g++) {
        var four = (*s).a;
        for (var x = 0u; x < 4u + unseen_zero(); x++) {
            var y = four[0];
            if (4u * g + x < count) {
                to_key(at, first + 4u * g + x);
                y = vec4<f32>(finished(y.x, &rows_a, (*at).a), finished(y.y, &rows_b, (*at).b),
                    finished(y.z, &rows_c, (*at).c), finished(y.w, &rows_d, (*at).d));
            }
            four = mat4x4<f32>(four[1], four[2], four[3], y);
        }
        *s = Scores((*s).b, (*s).c, (*s).d, (*s).e, (*s).f, (*s).g, (*s).h, four);
    }
}

fn finished(t: f32, rows: ptr<function, QueryRows>, at: ScoreAt) -> f32 {
    if (is_nan(t)) { return t; }                             // a driver's comparisons in cap may lose it
    return modified_score(cap(t) + relative_terms(rows, at) + score_terms(at), at);
}
