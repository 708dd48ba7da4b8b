// Queries are taken as they are: an item is a vec4 of a row.
struct QueryUnit { x: QRaw4 }

// Of the last row where there are less.
fn query_unit(batch: u32, kv_head: u32, rows: u32, item: u32) -> QueryUnit {
    let packed = min(item / UNITS, rows - 1u);
    let i = token_of(packed);
    return QueryUnit(q_raw4(q_row(batch, i, kv_head * params.group + packed - i * params.group), item % UNITS));
}
fn turned_query(raw: QueryUnit, batch: u32, kv_head: u32, rows: u32, item: u32) -> mat2x4<f32> {
    let packed = min(item / UNITS, rows - 1u);
    let i = token_of(packed);
    let y = params.softmax_scale * query_scale(kv_head * params.group + packed - i * params.group, q_position(batch, i)) * q_unpack4(raw.x);
    return mat2x4<f32>(y, y);
}
// In q_tile.
fn query_place(item: u32) -> vec2<u32> { return vec2<u32>(item / UNITS * Q_STRIDE + item % UNITS); }
