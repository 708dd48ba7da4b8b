// Tiles of rows of a part of the grid: those of each sequence by themselves, in x; sequences in z.

// The sequence and its tile that number x of the part is.
fn tile_at(x: u32, z: u32) -> vec2<u32> { return vec2<u32>(chunk.batch + z, chunk.tile + x); }
// What a workgroup that prepares units of tokens has: of which sequence, its first tile and how many, the number of that in the part, and the
// workgroup's own number among those of these tiles.
fn tiles_of_units(x: u32, z: u32) -> TileSpan { return TileSpan(chunk.batch + z, chunk.tile, chunk.tiles, 0u, x); }
