//! What a plan has to respect: a device's limits, and what may be forced or was measured.

use crate::plan::budget::{CPU_FLOP_PER_DISPATCH, CPU_LOOP_ROUNDS, UNKNOWN_RATE, flop_per_dispatch};
use crate::plan::tuning::bucket::Tunings;
use crate::plan::tuning::tuning::Tuning;

/// What a plan must respect. [`Limits::default`] is WebGPU's defaults, which every device has.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// `max_storage_buffer_binding_size`, bytes.
    pub max_binding_size: u64,
    /// `max_storage_buffers_per_shader_stage`.
    pub max_storage_buffers: u32,
    /// `max_compute_workgroups_per_dimension`.
    pub max_workgroups: u32,
    /// `max_compute_workgroup_storage_size`, bytes.
    pub max_workgroup_storage: u32,
    /// `max_compute_invocations_per_workgroup`.
    pub max_invocations: u32,
    /// Floating-point operations that one dispatch may hold, so that no watchdog is near.
    pub max_flop_per_dispatch: f64,
    /// Bytes of `work` that a plan may take for what it prepares beforehand and for parts of rows, as far as a binding reaches. With less the
    /// work is cut into more dispatches.
    pub max_scratch_bytes: u64,
    /// Whether loops over a row keep run-time bounds: software adapters compile unrolled ones for seconds.
    pub rolled_loops: bool,
    /// Rounds of all loops that an invocation may make in a dispatch; longer work is cut over keys.
    pub max_loop_rounds: u32,
    /// Whether the adapter is a software one, whose invocations are lanes of a vector register.
    pub cpu: bool,
    /// The size of every subgroup, where the device has the feature and but one size; else 0.
    pub subgroup_size: u32,
    /// Whether shaders may compute in f16.
    pub f16: bool,
    /// Rows of the square matrices (f16 x f16 + f32) of cooperative matrix multiplication: 8, 16, or 0 for none.
    pub cooperative_matrix: u32,
    /// Lanes of a subgroup of a kernel that multiplies such matrices, as such a kernel told when the device was opened: some devices have several sizes, and
    /// their driver chooses. 0: not known, and no such kernel is planned.
    pub matrix_subgroup: u32,
    /// Registers of 32 bits that a kernel may take for a lane before they spill: 256, or 128 where the vendor's compilers have no more.
    pub registers: u32,
    /// A family and its numbers to take, where they suit, instead of the table's.
    pub tuning: Option<Tuning>,
    /// Winners that were measured on the device: they go before the table, in the buckets that they are for, where they suit.
    pub tunings: Tunings,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_binding_size: 128 << 20,
            max_storage_buffers: 8,
            max_workgroups: 65_535,
            max_workgroup_storage: 16_384,
            max_invocations: 256,
            max_flop_per_dispatch: flop_per_dispatch(UNKNOWN_RATE),
            max_scratch_bytes: 256 << 20,
            rolled_loops: false,
            max_loop_rounds: u32::MAX,
            cpu: false,
            subgroup_size: 0,
            f16: false,
            cooperative_matrix: 0,
            matrix_subgroup: 0,
            registers: 256,
            tuning: None,
            tunings: Tunings::default(),
        }
    }
}

impl Limits {
    /// For a software adapter: shorter dispatches, rolled loops, a limit on their rounds.
    pub fn for_cpu(self) -> Self {
        Limits {
            max_flop_per_dispatch: CPU_FLOP_PER_DISPATCH,
            rolled_loops: true,
            max_loop_rounds: CPU_LOOP_ROUNDS,
            cpu: true,
            ..self
        }
    }
}
