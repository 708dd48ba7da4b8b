// The products are the scores.
fn epilogue(s: ptr<function, Scores>, at: ptr<function, Rows4>, lane: u32, first: u32, count: u32) {}
