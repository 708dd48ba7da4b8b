// u_h, [num_heads, HEAD_DIM] in `tables`, is added to q (Transformer-XL).
fn add_content_bias(row: ptr<function, Row>, head: u32) {
    let start = TABLE_CONTENT_BIAS + head * HEAD_DIM;
    for (var c = 0u; c < head_chunks(); c++) { (*row)[c] += table4(start, c, HEAD_DIM); }
}
