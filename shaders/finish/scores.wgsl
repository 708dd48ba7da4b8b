// Score by score: cap, A and B, terms, the user's function. Registers have no index, so a loop takes four keys out of them and puts
// them back by selections: some 3 000 of them a tile, and no memory.
fn finish(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {
    var rows_a: QueryRows;
    var rows_b: QueryRows;
    var rows_c: QueryRows;
    var rows_d: QueryRows;
    load_query_rows(&rows_a, 0u, (*at).a, (*at).packed.x);
    load_query_rows(&rows_b, 0u, (*at).b, (*at).packed.y);
    load_query_rows(&rows_c, 0u, (*at).c, (*at).packed.z);
    load_query_rows(&rows_d, 0u, (*at).d, (*at).packed.w);
    for (var g = 0u; 4u * g < count; g++) {
        var four = four_of(s, g);
        for (var x = 0u; x < min(4u, count - 4u * g); x++) {
            let t = select(select(four[3], four[2], x == 2u), select(four[1], four[0], x == 0u), x < 2u);
            to_key(at, first + 4u * g + x);
            let y = vec4<f32>(finished(t.x, &rows_a, (*at).a), finished(t.y, &rows_b, (*at).b),
                finished(t.z, &rows_c, (*at).c), finished(t.w, &rows_d, (*at).d));
            four = mat4x4<f32>(select(four[0], y, x == 0u), select(four[1], y, x == 1u), select(four[2], y, x == 2u), select(four[3], y, x == 3u));
        }
        (*s).a = matrix_or((*s).a, four, g == 0u); (*s).b = matrix_or((*s).b, four, g == 1u);
        (*s).c = matrix_or((*s).c, four, g == 2u); (*s).d = matrix_or((*s).d, four, g == 3u);
        (*s).e = matrix_or((*s).e, four, g == 4u); (*s).f = matrix_or((*s).f, four, g == 5u);
        (*s).g = matrix_or((*s).g, four, g == 6u); (*s).h = matrix_or((*s).h, four, g == 7u);
    }
}

fn finished(t: f32, rows: ptr<function, QueryRows>, at: ScoreAt) -> f32 {
    if (is_nan(t)) { return t; }                             // a driver's comparisons in cap may lose it
    return modified_score(cap(t) + relative_terms(rows, at) + score_terms(at), at);
}

fn four_of(s: ptr<function, Scores>, g: u32) -> mat4x4<f32> {
    var four = (*s).h;
    four = matrix_or(four, (*s).a, g == 0u);
    four = matrix_or(four, (*s).b, g == 1u);
    four = matrix_or(four, (*s).c, g == 2u);
    four = matrix_or(four, (*s).d, g == 3u);
    four = matrix_or(four, (*s).e, g == 4u);
    four = matrix_or(four, (*s).f, g == 5u);
    return matrix_or(four, (*s).g, g == 6u);
}
fn matrix_or(x: mat4x4<f32>, y: mat4x4<f32>, other: bool) -> mat4x4<f32> {
    return mat4x4<f32>(select(x[0], y[0], other), select(x[1], y[1], other), select(x[2], y[2], other), select(x[3], y[3], other));
}
