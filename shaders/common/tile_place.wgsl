// The number of a tile of rows in its part of the grid, where it has a place in `work`: the x-th of a kv head of a sequence.
fn tile_place(x: u32, kv_head: u32, z: u32) -> u32 { return (z * chunk.kv_heads + kv_head - chunk.kv_head) * chunk.tiles + x; }

struct TileSpan { batch: u32, first: u32, tiles: u32, x: u32, workgroup: u32 }
