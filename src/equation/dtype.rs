//! Storage types.

use serde::Deserialize;
use serde::Serialize;

/// The storage type of q, k, v and out. Arithmetic is f32 whatever the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; needs no device feature, two elements share a word.
    F16,
    /// bfloat16, the upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
    /// The largest relative error of one rounding to this type (its unit roundoff).
    pub fn unit_roundoff(self) -> f64 {
        match self {
            Dtype::F32 => 2f64.powi(-24),
            Dtype::F16 => 2f64.powi(-11),
            Dtype::Bf16 => 2f64.powi(-8),
        }
    }
    /// Whether two elements share a 32-bit word.
    pub(crate) fn shares_words(self) -> bool {
        self.size() < 4
    }
    /// The file of `shaders/tensor/storage_*`.
    pub(crate) fn storage_file(self) -> &'static str {
        match self {
            Dtype::F32 => "tensor/storage_f32.wgsl",
            Dtype::F16 => "tensor/storage_f16.wgsl",
            Dtype::Bf16 => "tensor/storage_bf16.wgsl",
        }
    }
    /// The name used in spec files, labels and shader file names.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

pub(crate) fn least_normal(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-14),
        Dtype::F32 | Dtype::Bf16 => 2f64.powi(-126),
    }
}
