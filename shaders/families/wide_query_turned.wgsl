// Queries turn on the way: an item is a unit of a row, `common/units.wgsl`.
struct QueryUnit { x: QRaw4, y: QRaw4, position: Position }

// Of the last row where there are less.
fn query_unit(batch: u32, kv_head: u32, rows: u32, item: u32) -> QueryUnit {
    let packed = min(item / UNITS, rows - 1u);
    let i = token_of(packed);
    let row = q_row(batch, i, kv_head * params.group + packed - i * params.group);
    let place = unit_of(item % UNITS);
    return QueryUnit(q_raw4(row, place.x), q_raw4(row, place.y), q_positions(batch, i));
}
fn turned_query(raw: QueryUnit, batch: u32, kv_head: u32, rows: u32, item: u32) -> mat2x4<f32> {
    let packed = min(item / UNITS, rows - 1u);
    let i = token_of(packed);
    let scale = params.softmax_scale * query_scale(kv_head * params.group + packed - i * params.group, q_position(batch, i));
    let unit = item % UNITS;
    let x = q_unpack4(raw.x);
    let y = q_unpack4(raw.y);
    let turned = turned_unit(x, y, turns_of(raw.position, unit, 1.0));
    let copied = vec4<bool>(unit >= QUADS);
    return mat2x4<f32>(scale * select(turned[0], x, copied), scale * select(turned[1], y, copied));
}
// In q_tile.
fn query_place(item: u32) -> vec2<u32> { return item / UNITS * Q_STRIDE + unit_of(item % UNITS).zw; }
