// lse until store_lse: words, which `main` writes four rows at a time.
fn kept_lse(row: u32) -> f32 { return work[params.partials + row]; }
// Rows 4 row4..4 row4 + 3 of a tile.
fn put_lse4(place: u32, row4: u32, lse: vec4<f32>) { work4[(params.partials + place * TILE_Q) / 4u + row4] = lse; }
