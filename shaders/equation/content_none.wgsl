// No content bias.
fn add_content_bias(row: ptr<function, Row>, head: u32) {}
