// The row of a distance d from a table that the host made, of distances -most..most: buckets have edges that a device's
// logarithm would miss.
fn index_lookup(d: i32, first: u32, most: i32) -> i32 { return i32(tables[first + u32(clamp(d, -most, most) + most)]); }
