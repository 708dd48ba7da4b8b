// As families/loops_constant.wgsl, over the features of linear attention.
fn feature_chunks() -> u32 { return FEATURE_CHUNKS; }
