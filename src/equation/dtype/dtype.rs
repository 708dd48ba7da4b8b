//! Storage types.

use crate::equation::dtype::blocks::{Blocks, Element};
use crate::equation::dtype::off::{self, Near};
use crate::equation::dtype::{f8_e4m3, int8, iq4_nl, q4_0, q4_1, q5_0, q5_1, q8_0};
use serde::Deserialize;
use serde::Serialize;

/// A storage type of q, k, v or out. Arithmetic is f32 whatever the storage. q and out are f32, f16 or bf16; k and v any type.
///
/// The types of ggml are laid out as ggml lays them out, 32 elements in a block of 18 to 34 bytes. Rows are whole blocks, so head_dims
/// are multiples of 32 there; a row of an odd number of blocks is followed by one that begins at a half word.
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
    /// Of k and v. ggml's q8_0: 32 elements in 34 bytes, d q with an f16 d and q of eight bits.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// Of k and v. ggml's q4_0: 32 elements in 18 bytes, d (q - 8) with q of four bits.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// Of k and v. ggml's q4_1: 32 elements in 20 bytes, d q + m with q of four bits.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// Of k and v. ggml's q5_0: 32 elements in 22 bytes, d (q - 16) with q of five bits.
    #[serde(rename = "q5_0")]
    Q5_0,
    /// Of k and v. ggml's q5_1: 32 elements in 24 bytes, d q + m with q of five bits.
    #[serde(rename = "q5_1")]
    Q5_1,
    /// Of k and v. ggml's iq4_nl: 32 elements in 18 bytes, d times one of sixteen numbers from -127 to 113.
    #[serde(rename = "iq4_nl")]
    Iq4Nl,
    /// Of k and v. A row of a head is an f32 d, then head_dim numbers q of eight bits; elements are d q. head_dim is a multiple of 4.
    Int8,
    /// Of k and v. fp8 e4m3 (OCP's: up to 448, NaN, no infinity), a byte an element, without a scale: a scale of all keys belongs to `softmax_scale`.
    /// head_dim is a multiple of 4.
    #[serde(rename = "f8_e4m3")]
    F8E4m3,
}

/// Everything that the library asks of a storage type, but for its elements on the host (`inputs::tensor::Data`).
struct Storage {
    name: &'static str,
    /// Its file of `shaders/`, and the one that makes blocks or words of new rows.
    file: &'static str,
    quantise: &'static str,
    kind: Kind,
}

/// How its elements stand.
enum Kind {
    /// Each by itself.
    Float(Float),
    /// In blocks, of k and v alone.
    Blocks(Blocks),
}

/// What rounding to a type does.
#[derive(Clone, Copy)]
struct Float {
    /// Bytes of an element.
    size: usize,
    /// The largest relative error of one rounding.
    unit_roundoff: f64,
    least_normal: f64,
    /// What is above becomes infinite. Of bf16 a little less than the largest number.
    most: f64,
    /// The largest error of rounding to a subnormal, where a device keeps those; none: they are as small as f32's, which devices flush.
    subnormal_error: Option<f64>,
}

/// Of nothing that is rounded to.
const NO_FLOAT: Float =
    Float { size: 0, unit_roundoff: f64::INFINITY, least_normal: 0.0, most: 0.0, subnormal_error: None };

impl Dtype {
    /// Every type, those of q and out first.
    pub const ALL: [Dtype; 11] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::Q8_0,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Iq4Nl,
        Dtype::Int8,
        Dtype::F8E4m3,
    ];

    /// The one match.
    fn storage(self) -> Storage {
        let blocks = |name, [file, quantise]: [&'static str; 2], blocks| Storage {
            name,
            file,
            quantise,
            kind: Kind::Blocks(blocks),
        };
        match self {
            Dtype::F32 => Storage {
                name: "f32",
                file: "tensor/storage_f32.wgsl",
                quantise: "tensor/quantise_f32.wgsl",
                kind: Kind::Float(Float {
                    size: 4,
                    unit_roundoff: 2f64.powi(-24),
                    least_normal: 2f64.powi(-126),
                    most: f32::MAX as f64,
                    subnormal_error: None,
                }),
            },
            Dtype::F16 => Storage {
                name: "f16",
                file: "tensor/storage_f16.wgsl",
                quantise: "tensor/quantise_f16.wgsl",
                kind: Kind::Float(Float {
                    size: 2,
                    unit_roundoff: 2f64.powi(-11),
                    least_normal: 2f64.powi(-14),
                    most: 65_504.0,
                    // half of the least subnormal
                    subnormal_error: Some(2f64.powi(-25)),
                }),
            },
            Dtype::Bf16 => Storage {
                name: "bf16",
                file: "tensor/storage_bf16.wgsl",
                quantise: "tensor/quantise_bf16.wgsl",
                kind: Kind::Float(Float {
                    size: 2,
                    unit_roundoff: 2f64.powi(-8),
                    least_normal: 2f64.powi(-126),
                    most: 3.3e38,
                    subnormal_error: None,
                }),
            },
            Dtype::Q8_0 => blocks("q8_0", ["tensor/storage_q8_0.wgsl", "tensor/quantise_q8_0.wgsl"], q8_0::Q8_0),
            Dtype::Q4_0 => blocks("q4_0", ["tensor/storage_q4_0.wgsl", "tensor/quantise_q4_0.wgsl"], q4_0::Q4_0),
            Dtype::Q4_1 => blocks("q4_1", ["tensor/storage_q4_1.wgsl", "tensor/quantise_q4_1.wgsl"], q4_1::Q4_1),
            Dtype::Q5_0 => blocks("q5_0", ["tensor/storage_q5_0.wgsl", "tensor/quantise_q5_0.wgsl"], q5_0::Q5_0),
            Dtype::Q5_1 => blocks("q5_1", ["tensor/storage_q5_1.wgsl", "tensor/quantise_q5_1.wgsl"], q5_1::Q5_1),
            Dtype::Iq4Nl => {
                blocks("iq4_nl", ["tensor/storage_iq4_nl.wgsl", "tensor/quantise_iq4_nl.wgsl"], iq4_nl::IQ4_NL)
            }
            Dtype::Int8 => blocks("int8", ["tensor/storage_int8.wgsl", "tensor/quantise_int8.wgsl"], int8::INT8),
            Dtype::F8E4m3 => {
                blocks("f8_e4m3", ["tensor/storage_f8_e4m3.wgsl", "tensor/quantise_f8_e4m3.wgsl"], f8_e4m3::F8_E4M3)
            }
        }
    }
    fn float(self) -> Float {
        if let Kind::Float(float) = self.storage().kind { float } else { NO_FLOAT }
    }
    /// None of f32, f16 and bf16.
    pub(crate) fn blocks(self) -> Option<Blocks> {
        if let Kind::Blocks(blocks) = self.storage().kind { Some(blocks) } else { None }
    }

    /// Whether elements stand in blocks, which k and v alone may: in none of f32, f16 and bf16.
    pub fn in_blocks(self) -> bool {
        self.blocks().is_some()
    }
    /// Bytes of one element; 0 of types in blocks: see [`Dtype::block`].
    pub fn size(self) -> usize {
        self.float().size
    }
    /// Elements that stand together, and their bytes, in rows of `dim` elements: 32 of ggml's types, a row of int8, four of fp8, else one.
    pub fn block(self, dim: u32) -> [u32; 2] {
        self.blocks().map_or([1, self.size() as u32], |blocks| blocks.of_rows(dim))
    }
    /// Bytes of a row of `dim` elements.
    pub fn row_bytes(self, dim: u32) -> u64 {
        let [elements, bytes] = self.block(dim);
        (dim as u64).div_ceil(elements as u64) * bytes as u64
    }
    /// What head_dim is a multiple of.
    pub(crate) fn unit(self) -> u32 {
        self.blocks().map_or(1, |blocks| blocks.elements.max(4))
    }
    /// The largest relative error of one rounding to this type (its unit roundoff); infinite of types in blocks.
    pub fn unit_roundoff(self) -> f64 {
        self.float().unit_roundoff
    }
    /// The name used in spec files, labels and shader file names.
    pub fn name(self) -> &'static str {
        self.storage().name
    }
    /// The type of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
    /// Whether two elements share a 32-bit word.
    pub(crate) fn shares_words(self) -> bool {
        self.size() < 4
    }
    /// The file of `shaders/tensor/storage_*`.
    pub(crate) fn storage_file(self) -> &'static str {
        self.storage().file
    }
    /// The file of `shaders/tensor/quantise_*`.
    pub(crate) fn quantise_file(self) -> &'static str {
        self.storage().quantise
    }
    /// Whether blocks begin at half words, so that two of them may share a word.
    pub(crate) fn begins_at_half_words(self) -> bool {
        self.blocks().is_some_and(|blocks| blocks.bytes % 4 != 0)
    }
    pub(crate) fn least_normal(self) -> f64 {
        self.float().least_normal
    }
    /// What is above becomes infinite.
    pub(crate) fn most(self) -> f64 {
        self.float().most
    }
    /// The largest error of rounding to a subnormal, where a device keeps those.
    pub(crate) fn subnormal_error(self) -> Option<f64> {
        self.float().subnormal_error
    }
    /// An element of a block.
    pub(crate) fn decoded(self, block: &[u8], i: usize) -> Element {
        self.blocks().map_or(Element { value: f64::NAN, lost: 0.0 }, |blocks| (blocks.decode)(block, i))
    }
    /// How far from rows of `dim` values, each of which a device has within its second number, a device's blocks may be.
    pub(crate) fn off(self, dim: u32, values: &[Near]) -> Vec<f64> {
        let Some(blocks) = self.blocks() else { return vec![f64::INFINITY; values.len()] };
        let [elements, _] = blocks.of_rows(dim);
        values.chunks(elements as usize).flat_map(|block| off::finite(block, blocks.off)).collect()
    }
    /// Rows of `dim` values in blocks; the last block of a row is filled with zeros.
    pub(crate) fn encoded(self, dim: u32, values: &[f32]) -> Vec<u8> {
        let Some(blocks) = self.blocks() else { return Vec::new() };
        let [elements, _] = blocks.of_rows(dim);
        let mut last = Vec::new();
        let one = |block: &[f32]| {
            if block.len() == elements as usize {
                return (blocks.encode)(block);
            }
            last.clear();
            last.extend_from_slice(block);
            last.resize(elements as usize, 0.0);
            (blocks.encode)(&last)
        };
        values.chunks(elements as usize).flat_map(one).collect()
    }
}
