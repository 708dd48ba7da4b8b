// Rows of a workgroup of `tile` and `block`: where each stands, and values that are not finite.
//
// A weight of 0 does not hide such a value. In tiles with masked keys they are staged as 0, and `stray` says so: the rows that see them get them
// when they are stored.
var<workgroup> tile_rows: array<vec4<i32>, TILE_Q>;        // head, i, i', m
var<workgroup> stray: atomic<u32>;

// Row r of the tile.
fn tile_row_place(batch: u32, r: u32) -> ScoreAt {
    let x = tile_rows[r];
    return ScoreAt(batch, u32(x.x), u32(x.y), 0u, x.z, x.w, 0);
}

// Where the workgroup stands.
struct TilePlace { batch: u32, kv_head: u32, tile: u32, place: u32, rows: u32, keys: vec2<u32> }

// What was staged as 0, of the keys that a row sees: whatever its weight, the sum becomes infinite or NaN.
fn tile_strayed(here: TilePlace, place: ScoreAt, c: u32) -> vec4<f32> {
    var at = place;
    var sum = vec4<f32>(0.0);
    for (var j = here.keys.x; j < here.keys.y; j++) {
        at.j = j;
        if (visible(at)) {
            let v = v4(v_row(here.batch, j, here.kv_head), c);
            sum = select(sum, sum + v, is_beyond4(v));
        }
    }
    return sum;
}
