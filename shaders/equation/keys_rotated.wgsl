// k holds R(n) N k already: a cache of rotated keys.
fn prepare_key(row: ptr<function, Row>, batch: u32, j: u32) {}
