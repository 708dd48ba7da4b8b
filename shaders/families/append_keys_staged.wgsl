// New keys as attention takes them, R(n) N k: each made by one lane, in workgroup memory for those that quantise its pieces.
var<workgroup> staged_keys: array<vec4<f32>, TILE_Q * K_HEADS * HEAD_CHUNKS>;

fn stage_keys(batch: u32, first: u32, head: u32, lane: u32) {
    for (var item = lane; item < TILE_Q * K_HEADS; item += LANES) {
        let n = first + item / K_HEADS;
        let of_unit = item % K_HEADS;
        if (n < append_count(batch) && head + of_unit < params.num_heads / params.group) {
            let start = new_k_row(batch, n, head + of_unit);
            var row: Row;
            for (var c = 0u; c < head_chunks(); c++) { row[c] = new_k4(start, c); }
            prepare_key(&row, batch, append_key(batch, n));
            for (var c = 0u; c < head_chunks(); c++) { staged_keys[item * HEAD_CHUNKS + c] = row[c]; }
        }
    }
    workgroupBarrier();
}
fn key_place(batch: u32, n: u32, token: u32, head: u32, of_unit: u32) -> u32 { return (token * K_HEADS + of_unit) * HEAD_CHUNKS; }
fn key4(place: u32, c: u32) -> vec4<f32> { return staged_keys[place + c]; }
