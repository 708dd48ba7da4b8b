// The row of a distance d from a table that the host made, of distances -most..most, whose ends stand for what lies beyond; from `far`
// down one row less. Buckets have edges that a device's logarithm would miss.
fn index_lookup(d: i32, first: u32, most: i32, far: i32) -> i32 {
    return i32(tables[first + u32(clamp(d, -most, most) + most)]) - select(0, 1, d <= far);
}
