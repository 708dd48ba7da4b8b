// Loops over a row have bounds that a software adapter's compiler cannot see, so that it does not unroll them: with constant bounds
// Mesa 22's lavapipe takes 4 s to compile d 64 and 17 s for d 256.
fn head_chunks() -> u32 { return HEAD_CHUNKS + unseen_zero(); }
fn v_chunks() -> u32 { return V_CHUNKS + unseen_zero(); }
fn pairs() -> u32 { return PAIRS + unseen_zero(); }
fn head_padded() -> u32 { return HEAD_PADDED + unseen_zero(); }
fn v_padded() -> u32 { return V_PADDED + unseen_zero(); }
// A number of rounds that no compiler knows, once an entry point has called hide_steps.
var<private> no_steps: u32;
fn steps(n: u32) -> u32 { return n + no_steps; }
fn hide_steps() { no_steps = unseen_zero(); }
// The same around barriers: what is read of a private variable is not uniform.
fn uniform_steps(n: u32) -> u32 { return n + unseen_zero(); }
