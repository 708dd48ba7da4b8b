// The state of a row on its way over the keys: o <- sum p v and l <- sum p, both in terms of the running maximum m.
// Padded like Row; what stands past the row's end is never stored.
alias OutRow = array<vec4<f32>, V_PADDED>;
struct State {
    m: f32,
    l: f32,
    any: bool,      // some key was seen
    nan: bool,      // some seen score, or the sink, was `poisoned`
}

// exp(x) for x <= 0, in base 2. Below e^-138 it is 0 in f32.
fn exp_of(x: f32) -> f32 { return exp2(max(x * LOG2_E, -200.0)); }
