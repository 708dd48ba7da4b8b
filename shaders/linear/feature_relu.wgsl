// phi(x) = max(x, 0). What stands past the row's end is 0 and stays it.
fn feature_row(row: ptr<function, Row>) {
    for (var c = 0u; c < head_chunks(); c++) {
        let x = (*row)[c];
        // a NaN stays one, by bits: drivers fold comparisons
        (*row)[c] = select(max(x, vec4<f32>(0.0)), x, is_nan4(x));
    }
}
