// As loops/rolled.wgsl, over the features of linear attention.
fn feature_chunks() -> u32 { return params.feature_chunks; }
