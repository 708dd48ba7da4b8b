// phi(x) = elu(x) + 1: x + 1 from 0 on, exp(x) below (Katharopoulos et al. 2020). What stands past the row's end stays 0.
fn feature_row(row: ptr<function, Row>) {
    for (var c = 0u; c < head_chunks(); c++) {
        let x = (*row)[c];
        let phi = select(exp2(max(min(x, vec4<f32>(0.0)) * 1.44269504, vec4<f32>(-200.0))), x + 1.0, x >= vec4<f32>(0.0));
        let inside = 4u * c + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(HEAD_DIM);
        // a NaN stays one, by bits: drivers fold comparisons
        (*row)[c] = select(vec4<f32>(0.0), select(phi, x, is_nan4(x)), inside);
    }
}
