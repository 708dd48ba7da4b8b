//! The equation in f64, straight: the twin of the GPU call, with the same arguments and the same result.
//!
//! ```text
//! s(i,j) = cap( softmax_scale scale_h tau_i < R(m) (N q_i + u_h), R(n) N k_j > )
//!        + A_i[h,r] + B_j[h,r] + gate_i C_h[r] + D[b,h,i,j] + c_i - c_j        r = r(m,n)
//! s(i,j) = score_mod( s(i,j), b, h, i, j, m, n )                   where visible, else -inf
//! lse_i  = log( exp(sink_h) + sum_j exp(s(i,j)) )                  natural logarithm
//! o_i    = R_o(-m) sum_j exp(s(i,j) - lse_i) ( R_v(n) v_j + E_V[r] )
//! ```
//!
//! The weights are computed as exp(s - max) / sum, so that they add up to 1 however large the scores are.
//!
//! With kernels it shares no arithmetic on rows of q, k and v. What the host makes of a spec before it sees a row is shared with plans:
//! frequencies, bias tables, slopes, rows of index maps. The sizes that bounds of attention need are collected beside the values; those of
//! linear attention have arithmetic of their own. `tests/twin` computes the equation a second time.
//!
//! Called by checks and by users; it calls `inputs` and `equation`.

pub(crate) mod angles;
pub(crate) mod attention;
pub(crate) mod embed;
pub(crate) mod linear;
pub(crate) mod merge;

pub use attention::{Output, append, attention, rotate, scores};
pub use embed::reference as embed;
pub use linear::{features, reference as linear};
pub use merge::reference as merge;
