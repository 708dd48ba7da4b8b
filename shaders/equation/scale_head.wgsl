// scale_h, [num_heads] in `tables` (Swin v2).
fn scale_of_head(head: u32) -> f32 { return tables[TABLE_HEAD_SCALE + head]; }
