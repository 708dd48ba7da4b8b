// No norm; `key` says whose row it is.
fn norm_before(row: ptr<function, Row>, key: bool) {}
fn norm_after(row: ptr<function, Row>, key: bool) {}
