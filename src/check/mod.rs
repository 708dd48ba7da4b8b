//! Is a GPU's result right? A bound for every element, derived from the operations that the kernels do, and the
//! comparison with it.
//!
//! Notation: u = 2^-24 (f32 rounds to within u), d = head_dim, hats are computed values.
//!
//! **Sums.** n additions in f32 err by at most g(n) sum |x|, g(n) = u min(n, L sqrt(n)). The first is the worst case, the
//! second Higham and Mary's probabilistic bound (2019) for roundings that are independent and of mean zero: it fails
//! with probability at most 2 n exp(-L^2 / 2). L = 7: below 5e-11 n for each sum. It is used from 50 additions on.
//!
//! **Rotation.** |cos, sin| err by at most 2e-7 (tested at every scale of position), so with h the length of a pair each
//! rotated element errs by e h, e = sqrt(2) (2e-7 + 2u) + 2u. xPos: h holds the magnitude 2^x; its exponent is exact to
//! 2^-31, its fraction (at most 1/2) loses u / 2 in f32, exp2 errs by 8 u, the product by u: 10 u more within the root. Powers are cut
//! at 2^100 and 2^-100, in shader and reference.
//!
//! A sum of angles has the phase of the exact sum, each increment rounded to 2^-65 turns: 1.5e-9 for each stream more are added. R_o turns a row
//! of out: with b the bounds of a pair and h its length, each of its elements errs by |b| + e (h + |b|), times the factor.
//!
//! **Norm.** The row is scaled exactly by a power of two, so its squares stay in f32. Their sum errs by u + g(d/4 + 3), its mean and eps
//! by 4 u more, half of which the root keeps; inverseSqrt errs by 4 u (WGSL: 2 units of the last place), the products by u each: relative to
//! the element e_n = g(d/4 + 3) / 2 + 7.5 u + u for weights. Before the rotation, e becomes e + e_n. After it, the rotation's errors
//! change the length by sqrt(2) e: e becomes (1 + sqrt(2)) e + e_n. What reading subnormals as 0 takes from the row, and from its length, is
//! added. Rows below 1e-30 (eps included), or rotated above 1e30 before their norm, have no bound. A row of zeros is exact.
//!
//! A layer norm also sums its mean: h gains mean |x| / deviation, e_n counts the sum's roundings, and a mean that errs by d deviations changes the
//! variance by d^2. A norm of all heads sums all of a token's elements.
//!
//! **Scale.** Each of tau, the query's factor and scale_h adds u to q's scale. With z = ln(1 + floor((m + 1) / floor)) tau errs by u (|tau| + |base| + |scale| (5 Z + 2)), Z the sizes of
//! the logarithms that z is made of: ln_f32 by 3 u Z, its argument by u, the factor and the product by u Z each; factors of heads add 2 u |base| and 2 u |scale| Z.
//!
//! **Score.** With A = sum h_q h_k: |t^ - t| <= scale A (e_q + e_k + g(d) + u), e_q = e + 2u for the scale's roundings: the
//! longest sum is a chain of d multiply-adds (`block`), whose products a device may round before it adds them; other families, and so the kernel `scores`, add d/4 + 3 at most.
//! The cap is a contraction and errs by 21 u |cap| + 2 u |t| itself; ALiBi by 4 u |C|; each further term by one rounding, a
//! gate of C by two (its own to f32, the product). A and
//! B, with S = scale sum (|q| + |v|)|e| or scale sum |k||e|: (3 u + g(d/4 + 3)) S, and what q and k lose by flushing.
//!
//! **A sum with one large number.** fl(a + b) lies no farther from a + b than b does from it, since b is itself a number of f32: the error
//! is at most |a|. Of a score whose largest term b is a number that the device has exactly (D, a table's C), with r the sum of the sizes
//! of all other terms and E_r their own errors and those of adding them up, all additions to b err by r + E_r at most, so the score errs by
//! r + 2 E_r, where that is less than the above. And where r + E_r <= 2^-26 |b| every addition gives b back: the device's score is b,
//! exactly, whatever the reference's f64 keeps of the rest. So beside a D of -1e15 the device's q.k is lost, and the check knows it.
//! This assumes that additions of f32 round to nearest: WGSL leaves open to which of the two neighbours, every device known rounds so,
//! and with a whole unit of the last place for each addition a bound would say nothing of such rows.
//!
//! **Infinity.** A score of -inf or +inf from one infinite number of C, or from infinite elements of q and k that are not turned, normed or
//! capped, is the same on the device: it has no error. -inf is floored, +inf makes its row NaN.
//!
//! **The floor** is a contraction: s^ lies between the floored ends of its interval. Scores that stay below [`SCORE_FLOOR`](crate::SCORE_FLOOR), finfo.min among
//! them, are the same number on both sides, without error. Nothing leaves f32 where the other terms are at most 1e30: half a unit of
//! the last place of the largest f32 is 1e31.
//!
//! **The user's function** f, of which only the closure is known: |f^(s^) - f(s)| <= max |f(s + x) - f(s)| + its stated
//! rounding r, over x in -E, -E/2, E/2, E for a score that errs by E. That is a bound where f is monotone within E of s, or
//! smooth on that scale (E is some 1e-6 of s), or has one step there. A mask decides alike on both sides: its arguments are
//! integers.
//!
//! **Weight.** exp2 errs by (3 + 2|x|) 2^-23 (WGSL), its argument by 3 u (m - s). After r later changes of the running
//! maximum: p^ = p (1 + n_j), n_j = expm1(F_j), F_j = E_s + u (8.8 (m - s_j) + 6 + 7 r). So log p^ lies in an interval around the device's
//! score, and a sum of p^ between the sums of the intervals' ends: with L-, L+ the log of those, W = max(lse - L-, L+ - lse), which is
//! about sum p_j F_j where F is small and at most the largest F. A tile may change the running maximum where the end of an interval in it
//! lies above the starts of all before it.
//!
//! **Result.** With N = sum p_j n_j:
//!
//! ```text
//! |lse^ - lse| <= W + g(l) + max(2^-21, 6 u |lse - m|) + 2 u |lse|                     (log: WGSL's bound)
//! |o^ - o|     <= exp(lse - L-) (sum p_j n_j |v_j| + sum p_j (1 + n_j) (e_j + g(o) |v_j|) + |o| (N + g(l) + 6 u)) + rounding to storage
//! ```
//!
//! The second comes from sum p^_j (v_j - o) = sum p_j (e^x - 1) (v_j - o) with |x| <= F_j, divided by sum p^ >= exp(L-); e_j is what the value
//! of key j is off by, and p^_j at most p_j (1 + n_j) what makes it and the sum's roundings count. It grows without end as
//! scores lose their digits (the score of a row around -1e9 errs by 100 and more). Then there is another: weights w_j = p^_j / sum p^ add up to
//! 1, and each lies between l_j and h_j, the quotients of the ends of its interval and L+ or L-, h_j at most 1. So
//!
//! ```text
//! |o^ - o|     <= max over such w of | sum w_j (v_j - o) | + sum w_j (g(o) + g(l) + 6 u) |v_j|
//! ```
//!
//! a linear program that filling up w from the largest v_j - o on solves. At worst, when nothing is known of the weights, it says that o^ is
//! a mean of the values that may be seen: it is finite, and a sum of values in place of their mean breaks it. The smaller of the two is
//! taken; the second is only computed where N is above 1/16. A sink is a value of 0.
//!
//! E_V counts as one more value of its key, and R_v adds sum p e h_v, here and there. Of packed sequences a row's keys, and the tiles that they fall into, are those of
//! its own sequence.
//!
//! **f16 on matrix units** ([`Arithmetic::F16Matrix`], kernels of the family `coop`; F32 is all of the above and nothing else). Turned q, times the
//! scale, and turned k are rounded to f16: to nearest, or in any direction (Vulkan leaves that open), so by 2^-10 of themselves, and what is below 2^-14 may be
//! flushed. Their products are exact in f32; how a matrix unit adds them is stated nowhere, some cut off instead of rounding: 2^-22 for
//! each addition, however they are ordered.
//!
//! The maximum m of a row's weights follows its scores lazily: it becomes the largest of them where that lies more than 8 ln 2 above it, so m is at least the
//! largest - 5.6, and p at most 2^8. What is rounded is 2^7 p, at most 2^15: only weights below 2^-21 of exp(m), hence of the largest, may be flushed. A weight's
//! way, from its score to the m of its time and on to the last, is longer than m - s by 2 x 5.6, at 8.8 u each; its exponent is larger by 7, which exp2 feels
//! twice (28 u), and so does the sum that makes it (5 u): F_j grows by 132 u. log l is of a sum up to exp(5.6) larger. Tiles have 16 keys at least. So
//!
//! ```text
//! |t^ - t| grows by scale (2 2^-10 + 2^-20 + 2^-22 d) A + 2^-14 (1 + 2^-9) sum (scale h_q + h_k) + 2^-28 d
//! F_j      grows by 132 u
//! |o^ - o| grows by sum p_j |v_j| (2^-10 + 2^-22 (n + n / 16)) + 2^-21 exp(m - lse) sum |v_j|
//! ```
//!
//! with n keys. l is a sum of f32. Elements of turned rows, those of q times the scale, above 65504 have no bound.
//!
//! **Splits.** Calls of few rows (`family::decode::may_split`) may be computed in parts of whole tiles, each with a running maximum of its
//! own, merged at the end: what r counts is then the longest chain of changes from any tile on, and one more for the merge, where that
//! is more. A part makes no more additions than the row: its keys, and one for each other part that saw a key.
//!
//! Subnormal elements may be read as 0 and results below 2^-126 flushed to 0: their sizes are added, as long as rotation makes
//! them; so is what rounding to storage left off ([`Tensor::with_residual`](crate::Tensor::with_residual)). A sink is one more score, without error and without a
//! value. Everything is multiplied by 1.01 for products of errors. Where numbers near the end of f32 make a bound meaningless,
//! the element counts as `unbounded`, and the report says so.
//!
//! Called by the catalogue and by users; it calls the reference, and plans for what a kernel sums.

pub(crate) mod attention;
pub(crate) mod bound;
pub(crate) mod delta;
pub(crate) mod embed;
pub(crate) mod linear;
pub(crate) mod merge;
pub(crate) mod report;

pub use attention::{append, attention, attention_in, rotate, scores};
pub use bound::{Arithmetic, Bounded, Worst};
pub use embed::bounds as embed;
pub use linear::bounds as linear;
pub use merge::bounds as merge;
pub use report::{Options, Report, verify};
