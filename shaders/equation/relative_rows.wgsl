// Embeddings of relative positions against queries and keys as they come:
//   A = < q_i + v_h, table[r] >,  B = < k_j, table[r] >
// The query rows (QUERY_ROWS of them, q alone and q with each v) stay in registers; rows of a large table are read where they
// are used, products with a small one are gathered (see equation/relative_gathered.wgsl). HEAD_CHUNKS additions deep, then two.
struct QueryRows {
    row: array<Row, QUERY_ROWS>,
    products: u32,      // where those made beforehand start in `work`
}

fn load_query_row(rows: ptr<function, QueryRows>, which: u32, start: u32) {
    for (var c = 0u; c < head_chunks(); c++) { (*rows).row[which][c] = q4(start, c); }
}
fn add_query_bias(rows: ptr<function, QueryRows>, which: u32, bias: u32) {
    for (var c = 0u; c < head_chunks(); c++) { (*rows).row[which][c] += table4(bias, c, HEAD_DIM); }
}
fn query_dot(rows: ptr<function, QueryRows>, which: u32, row: u32) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < head_chunks(); c++) { sum += (*rows).row[which][c] * table4(row, c, HEAD_DIM); }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
fn key_dot(at: ScoreAt, row: u32) -> f32 {
    let start = k_row(at.batch, at.j, at.head / params.group);
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < head_chunks(); c++) { sum += k4(start, c) * table4(row, c, HEAD_DIM); }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
