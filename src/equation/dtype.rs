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

/// Everything that the library asks of a storage type, but for its elements on the host (`inputs::tensor::Data`).
struct Storage {
    name: &'static str,
    /// Bytes of an element.
    size: usize,
    /// Its file of `shaders/`.
    file: &'static str,
    /// The largest relative error of one rounding.
    unit_roundoff: f64,
    least_normal: f64,
    /// What is above becomes infinite. Of bf16 a little less than the largest number.
    most: f64,
    /// The largest error of rounding to a subnormal, where a device keeps those; none: they are as small as f32's, which devices flush.
    subnormal_error: Option<f64>,
}

impl Dtype {
    /// The one match.
    fn storage(self) -> Storage {
        match self {
            Dtype::F32 => Storage {
                name: "f32",
                size: 4,
                file: "tensor/storage_f32.wgsl",
                unit_roundoff: 2f64.powi(-24),
                least_normal: 2f64.powi(-126),
                most: f32::MAX as f64,
                subnormal_error: None,
            },
            Dtype::F16 => Storage {
                name: "f16",
                size: 2,
                file: "tensor/storage_f16.wgsl",
                unit_roundoff: 2f64.powi(-11),
                least_normal: 2f64.powi(-14),
                most: 65_504.0,
                // half of the least subnormal
                subnormal_error: Some(2f64.powi(-25)),
            },
            Dtype::Bf16 => Storage {
                name: "bf16",
                size: 2,
                file: "tensor/storage_bf16.wgsl",
                unit_roundoff: 2f64.powi(-8),
                least_normal: 2f64.powi(-126),
                most: 3.3e38,
                subnormal_error: None,
            },
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        self.storage().size
    }
    /// The largest relative error of one rounding to this type (its unit roundoff).
    pub fn unit_roundoff(self) -> f64 {
        self.storage().unit_roundoff
    }
    /// The name used in spec files, labels and shader file names.
    pub fn name(self) -> &'static str {
        self.storage().name
    }
    /// Whether two elements share a 32-bit word.
    pub(crate) fn shares_words(self) -> bool {
        self.size() < 4
    }
    /// The file of `shaders/tensor/storage_*`.
    pub(crate) fn storage_file(self) -> &'static str {
        self.storage().file
    }
    pub(crate) fn least_normal(self) -> f64 {
        self.storage().least_normal
    }
    /// What is above becomes infinite.
    pub(crate) fn most(self) -> f64 {
        self.storage().most
    }
    /// The largest error of rounding to a subnormal, where a device keeps those.
    pub(crate) fn subnormal_error(self) -> Option<f64> {
        self.storage().subnormal_error
    }
}
