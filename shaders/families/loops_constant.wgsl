// Loops over a row have constant bounds, so that a GPU's compiler can unroll them and keep rows in registers.
fn head_chunks() -> u32 { return HEAD_CHUNKS; }
fn v_chunks() -> u32 { return V_CHUNKS; }
fn pairs() -> u32 { return PAIRS; }
fn head_padded() -> u32 { return HEAD_PADDED; }
fn v_padded() -> u32 { return V_PADDED; }
// Loops that have to be unrolled: private arrays as long as they.
fn steps(n: u32) -> u32 { return n; }
fn hide_steps() {}
fn uniform_steps(n: u32) -> u32 { return n; }
