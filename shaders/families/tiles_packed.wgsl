// Tiles of rows of packed sequences, numbered through: those of sequence s start at number rows before it / TILE_Q + s, which leaves room for its last,
// partly filled one. So a grid follows the tokens that there are, however long the longest sequence may be. A few numbers are no tile: these have no rows.

fn first_tile(batch: u32) -> u32 { return q_start(batch) * params.group / TILE_Q + batch; }
fn tile_at(x: u32, z: u32) -> vec2<u32> {
    let number = chunk.tile + x;
    var low = 0u;
    var high = params.sequences;
    for (var n = 0u; n < 32u && low + 1u < high; n++) {
        let middle = (low + high) / 2u;
        if (first_tile(middle) <= number) { low = middle; } else { high = middle; }
    }
    return vec2<u32>(low, number - min(first_tile(low), number));
}
// As tiles_batched has it: UNIT_WORKGROUPS workgroups a tile.
fn tiles_of_units(x: u32, z: u32) -> TileSpan {
    let at = tile_at(x / UNIT_WORKGROUPS, z);
    return TileSpan(at.x, at.y, 1u, x / UNIT_WORKGROUPS, x % UNIT_WORKGROUPS);
}
