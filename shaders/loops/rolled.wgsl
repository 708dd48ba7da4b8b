// Loops over a row take their bounds from a uniform, so that a software adapter's compiler does not unroll them: with
// constant bounds Mesa 22's lavapipe takes 4 s to compile d 64 and 17 s for d 256.
fn head_chunks() -> u32 { return params.head_chunks; }
fn v_chunks() -> u32 { return params.v_chunks; }
fn pairs() -> u32 { return params.pairs; }
fn head_padded() -> u32 { return params.head_padded; }
fn v_padded() -> u32 { return params.v_padded; }
