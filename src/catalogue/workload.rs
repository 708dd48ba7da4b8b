//! The named workloads that benches, tuning and comparisons share: spec, shape, seeded inputs.
//!
//! f32, batch 1, the rotation of q and k by the exact phase inside; each also as `-f16` and `-bf16`, which is storage.
//!
//! | name | what |
//! |---|---|
//! | p1 | prefill, 8 heads x 64, 1 024 tokens, causal |
//! | p2 | prefill of a Llama-3-8B layer: 32 heads on 8 kv heads x 128, 2 048 tokens, causal |
//! | p3 | p2 at 8 192 tokens |
//! | b1 | p1 with T5's bias: 32 buckets up to a distance of 128 |
//! | b2 | p1 with DeBERTa's c2p and p2c: 32 position buckets up to a distance of 512, a table for each head |
//! | d1 | decode: one query over 4 096 keys, 32 heads on 8 kv heads x 128, the cache rotated |
//! | d2 | d1 with the cache unrotated |
//! | r1 | rotation alone, in place: 4 096 tokens, 32 heads of q and 8 of k x 128 |
//! | g64r1k4b1 to g128r4k16b512 | ggml's FLASH_ATTN_EXT, in the shapes in which its `test-backend-ops perf` is read |
//!
//! Of ggml's the name says the head_dim (64, 128), the query heads of each of 8 kv heads (1, 4), the keys in 1 024 (4, 8, 16) and the queries (1, 4,
//! 512). Nothing turns, nobody masks - ggml's mask is a tensor that is added, and all its pairs are counted - and keys and values are f16 beside q
//! and out in f32, as there; in `-f16` and `-bf16` all four are of that type. [`ggml`] lists them, [`all`] does not.
//!
//! ```
//! use ropewalk::{Limits, workload};
//! let plans = workload::named("r1-f16")?.plans(&Limits::default())?;
//! assert_eq!(plans.len(), 2);                                  // q, then k
//! let bytes: u64 = plans.iter().map(|plan| plan.bytes()).sum();
//! assert!(bytes > 2 * 4096 * 40 * 128 * 2);                    // each element read and written
//! # Ok::<(), ropewalk::Error>(())
//! ```

use crate::equation::bias::Bias;
use crate::equation::dtype::Dtype;
use crate::equation::index::IndexMap;
use crate::equation::mask::Mask;
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
#[cfg(feature = "wgpu")]
pub use crate::gpu::loaded::Loaded;
use crate::inputs::inputs::Inputs;
use crate::inputs::shape::Shape;
use crate::inputs::tensor::{Data, Strides, Tensor};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::plan::Plan;
use rayon::prelude::*;

/// The names in f32; `-f16` and `-bf16` behind one choose another storage.
pub const NAMES: [&str; 8] = ["p1", "p2", "p3", "b1", "b2", "d1", "d2", "r1"];

/// One of the named workloads.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Workload {
    /// Such as `p1` or `d2-f16`.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// What is computed.
    pub spec: Spec,
    /// What is dispatched, in order, as one step.
    pub kernels: &'static [Kernel],
    /// Query tokens.
    pub q_len: u32,
    /// Keys.
    pub kv_len: u32,
}

/// All of them: every name in f32, then in f16, then in bf16.
pub fn all() -> Vec<Workload> {
    let of = |dtype: Dtype| NAMES.iter().filter_map(move |name| make(name, dtype));
    [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().flat_map(of).collect()
}

/// Every shape of ggml's, with keys and values in f16.
pub fn ggml() -> Vec<Workload> {
    let mut all = Vec::new();
    for (dim, share) in GGML.dims.iter().flat_map(|dim| GGML.shares.map(|share| (dim, share))) {
        for (keys, queries) in GGML.keys.iter().flat_map(|keys| GGML.queries.map(|queries| (keys, queries))) {
            all.extend(make(&format!("g{dim}r{share}k{keys}b{queries}"), Dtype::F32));
        }
    }
    all
}

/// What ggml's shapes are made of.
struct Shapes {
    dims: [u32; 2],
    shares: [u32; 2],
    keys: [u32; 3],
    queries: [u32; 3],
}

const GGML: Shapes = Shapes { dims: [64, 128], shares: [1, 4], keys: [4, 8, 16], queries: [1, 4, 512] };

impl Shapes {
    /// head_dim, query heads of a kv head, keys in 1 024 and queries of a name.
    fn read(&self, name: &str) -> Option<[u32; 4]> {
        let (dim, rest) = name.strip_prefix('g')?.split_once('r')?;
        let (share, rest) = rest.split_once('k')?;
        let (keys, queries) = rest.split_once('b')?;
        // as it is written, without signs and zeros in front
        let one_of = |all: &[u32], text: &str| all.iter().copied().find(|n| n.to_string() == text);
        let (dim, share) = (one_of(&self.dims, dim)?, one_of(&self.shares, share)?);
        Some([dim, share, one_of(&self.keys, keys)?, one_of(&self.queries, queries)?])
    }
}

/// The workload of a name.
///
/// # Errors
/// [`Error::Input`] where there is none; it lists the names.
pub fn named(name: &str) -> Result<Workload> {
    let (base, dtype) = match name.split_once('-') {
        None => (name, Some(Dtype::F32)),
        Some((base, suffix)) => (base, [Dtype::F16, Dtype::Bf16].into_iter().find(|d| d.name() == suffix)),
    };
    dtype.and_then(|dtype| make(base, dtype)).ok_or_else(|| {
        let help = format!(
            "name one of {}, or of ggml's shapes (g128r4k8b1), with -f16 or -bf16 behind it for that storage",
            NAMES.join(", ")
        );
        Error::input("workload", format!("there is no {name:?}"), help)
    })
}

fn make(base: &str, dtype: Dtype) -> Option<Workload> {
    const ATTENTION: &[Kernel] = &[Kernel::Attention];
    const ROTATION: &[Kernel] = &[Kernel::RotateQ { in_place: true }, Kernel::RotateK { in_place: true }];
    let name = match dtype {
        Dtype::F32 => base.to_string(),
        _ => format!("{base}-{}", dtype.name()),
    };
    if let Some([dim, share, keys, queries]) = GGML.read(base) {
        let mut spec = Spec::new(8 * share, 8, dim);
        spec.dtype = dtype;
        let cache = Some(Dtype::F16).filter(|_| dtype == Dtype::F32);
        (spec.k_dtype, spec.v_dtype) = (cache, cache);
        let (kv_len, of_cache) = (1024 * keys, spec.k_storage().name());
        let about = format!(
            "ggml's FLASH_ATTN_EXT(hsk={dim},hsv={dim},nh=8,nr23=[{share},1],kv={kv_len},nb={queries},type_KV={of_cache}), nothing masked"
        );
        return Some(Workload { name, about, spec, kernels: ATTENTION, q_len: queries, kv_len });
    }
    let [small, layer] = [(8, 8, 64, 10_000.0), (32, 8, 128, 500_000.0)].map(|(heads, kv_heads, dim, theta)| {
        let mut spec = Spec::new(heads, kv_heads, dim);
        (spec.rotary, spec.mask) = (Some(Rotary::new(Pairing::Half, dim, theta)), Mask::causal());
        spec.dtype = dtype;
        spec
    });
    let (about, spec, kernels, q_len, kv_len) = match base {
        "p1" => ("prefill, 8 heads x 64, 1024 tokens, causal", small, ATTENTION, 1024, 1024),
        "p2" => ("prefill, 32/8 heads x 128, 2048 tokens, causal", layer, ATTENTION, 2048, 2048),
        "p3" => ("prefill, 32/8 heads x 128, 8192 tokens, causal", layer, ATTENTION, 8192, 8192),
        "b1" => {
            let mut spec = small;
            spec.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: false }];
            ("p1 with T5's bias", spec, ATTENTION, 1024, 1024)
        }
        "b2" => {
            let mut spec = small;
            let index = IndexMap::LogBucket { buckets: 32, max_position: 512 };
            let table = |side| Relative { per_head: true, ..Relative::new(side, index) };
            spec.relative = [RelativeSide::Key, RelativeSide::Query].map(table).to_vec();
            spec.softmax_scale = Some(1.0 / (3.0 * spec.head_dim as f64).sqrt());
            ("p1 with DeBERTa's c2p and p2c", spec, ATTENTION, 1024, 1024)
        }
        "d1" => {
            let mut spec = layer;
            spec.rotary.iter_mut().for_each(|rotary| rotary.keys_rotated = true);
            ("decode, 32/8 heads x 128, 4096 keys, cache rotated", spec, ATTENTION, 1, 4096)
        }
        "d2" => ("decode, 32/8 heads x 128, 4096 keys, cache unrotated", layer, ATTENTION, 1, 4096),
        "r1" => ("rotation in place, 4096 tokens, 32 + 8 heads x 128", layer, ROTATION, 4096, 4096),
        _ => return None,
    };
    let about = about.to_string();
    Some(Workload { name, about, spec, kernels, q_len, kv_len })
}

impl Workload {
    /// Contiguous tensors of its lengths.
    pub fn shape(&self) -> Shape {
        Shape::new(&self.spec, 1, self.q_len, self.kv_len)
    }

    /// A plan for each of its kernels.
    ///
    /// # Errors
    /// As [`Plan::new`]: a limit that is too small.
    pub fn plans(&self, limits: &Limits) -> Result<Vec<Plan>> {
        self.kernels.iter().map(|kernel| Plan::new(*kernel, &self.spec, &self.shape(), limits)).collect()
    }

    /// Nearly normal numbers of variance 1, the same for a seed on every machine.
    ///
    /// # Errors
    /// [`Error::Input`] where tensors would be too large for an index of 32 bits; none of the named is.
    pub fn inputs(&self, seed: u64) -> Result<Inputs> {
        let spec = &self.spec;
        spec.validate()?;
        let largest = Strides::bshd(self.q_len.max(self.kv_len), spec.num_heads, spec.head_dim.max(spec.v_head_dim));
        if largest.batch == u32::MAX {
            let problem = format!("{} queries and {} keys of {} heads", self.q_len, self.kv_len, spec.num_heads);
            return Err(Error::input("workload", problem, "let each tensor have fewer than 2^32 - 1 elements"));
        }
        let tensor = |dtype: Dtype, len: u32, heads: u32, dim: u32, stream: u64| {
            let values = noise(len as usize * heads as usize * dim as usize, seed, stream);
            Tensor::bshd(Data::from_rows(dtype, dim, &values), [1, len, heads, dim])
        };
        let (of_k, of_v) = (spec.k_storage(), spec.v_storage());
        let mut inputs = Inputs::new(
            tensor(spec.dtype, self.q_len, spec.num_heads, spec.head_dim, 0)?,
            tensor(of_k, self.kv_len, spec.num_kv_heads, spec.head_dim, 1)?,
            tensor(of_v, self.kv_len, spec.num_kv_heads, spec.v_head_dim, 2)?,
        );
        for (stream, parameter) in (3..).zip(spec.parameters()) {
            let values = noise(parameter.len() as usize, seed, stream);
            inputs.parameters.insert(parameter.name, values);
        }
        Ok(inputs)
    }
}

/// Sums of four uniform numbers of 16 bits, from the n-th words of splitmix64 (Steele, Lea and Flood 2014).
fn noise(n: usize, seed: u64, stream: u64) -> Vec<f32> {
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let start = mix(mix(seed).wrapping_add(stream));
    let value = |i: usize| {
        let bits = mix(start.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let sum: i64 = (0..4).map(|part| (bits >> (16 * part) & 0xffff) as i64).sum();
        (sum - 131_070) as f32 * (3f32.sqrt() / 65_536.0)
    };
    (0..n).into_par_iter().map(value).collect()
}
