//! Classes of calls: a winner that was measured for one call is taken for every call of its class that it suits.

use super::Tuning;
use crate::family::Call;
use crate::{Dtype, Kernel, Limits, Result, Shape, Spec};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Upper ends of the classes of head_dim; larger ones are a class of their own, here and below.
const DIMS: &[u32] = &[32, 64, 96, 128, 192, 256];
/// Of kv heads times sequences: workgroups that the rows of one head do not fill a device with.
const HEADS: &[u32] = &[4, 16, 64, 256];
/// Of rows: query tokens times the query heads that share a kv head.
const ROWS: &[u32] = &[8, 64, 256, 1024, 4096, 16_384];
/// Of keys of a sequence.
const KEYS: &[u32] = &[256, 1024, 4096, 16_384, 65_536];

/// A class of calls: the kernel, the storage, classes of head_dim, heads, rows and keys, and what terms a score has. Its text is its
/// name in files.
///
/// ```
/// use ropewalk::{Bucket, Kernel, Mask, Shape, Spec};
/// let mut spec = Spec::new(32, 8, 128);
/// spec.mask = Mask::causal();
/// let decode = Bucket::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 1, 3000))?;
/// assert_eq!(decode.to_string(), "attention f32 d128 heads16 rows8 keys4096 causal");
/// assert_eq!(decode, Bucket::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 2, 4096))?);
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bucket {
    kernel: Kernel,
    dtype: Dtype,
    /// Upper ends of classes, `u32::MAX` for the last.
    pub(super) head_dim: u32,
    pub(super) heads: u32,
    pub(super) rows: u32,
    pub(super) keys: u32,
    /// A bit for each of [`TERMS`].
    terms: u32,
}

/// What changes a kernel's cost: the names, in the order of their bits.
const TERMS: [&str; 15] = [
    "unaligned",
    "causal",
    "window",
    "mask",
    "packed",
    "rotary",
    "rotated-keys",
    "values",
    "norm",
    "relative",
    "bias",
    "dense",
    "cap",
    "user",
    "linear",
];

impl Bucket {
    /// The class of a call.
    ///
    /// # Errors
    /// Those of the spec and of the shape.
    pub fn new(kernel: Kernel, spec: &Spec, shape: &Shape) -> Result<Self> {
        Ok(Self::of(&Call::new(kernel, spec, shape, &Limits::default())?))
    }

    pub(crate) fn of(call: &Call) -> Self {
        let Call { kernel, spec, .. } = *call;
        let [dim, heads, rows, keys] = sizes(kernel, spec, call.shape);
        let mask = &spec.mask;
        // rotations know no scores
        let scores = !kernel.rotates_only();
        let terms = [
            !call.aligned,
            scores && mask.right() == Some(0),
            scores && (mask.window_left.is_some() || mask.chunk.is_some() || mask.right().is_some_and(|r| r > 0)),
            scores && mask.dense,
            spec.packed,
            spec.rotary.is_some(),
            scores && spec.keys_rotated(),
            scores && (spec.rotates_values() || spec.relative.iter().any(|r| r.side == crate::RelativeSide::Value)),
            spec.norm.is_some(),
            scores && !spec.relative.is_empty(),
            scores && !spec.bias.is_empty(),
            scores && spec.dense_bias,
            scores && spec.logits_soft_cap.is_some(),
            scores && (spec.score_mod.is_some() || spec.mask_mod.is_some()),
            spec.linear.is_some(),
        ];
        Bucket {
            kernel,
            dtype: spec.dtype,
            head_dim: class(DIMS, dim),
            heads: class(HEADS, heads),
            rows: class(ROWS, rows),
            keys: class(KEYS, keys),
            terms: terms.iter().zip(0u32..).map(|(has, bit)| (*has as u32) << bit).sum(),
        }
    }
}

/// What the classes are of: the wider head_dim, kv heads times sequences, rows, keys (0 for rotations; the rows of a learned table).
fn sizes(kernel: Kernel, spec: &Spec, shape: &Shape) -> [u32; 4] {
    let [q_len, kv_len, sequences] = match spec.packed {
        true => [shape.max_seqlen_q, shape.max_seqlen_k, shape.sequences],
        false => [shape.q_len, shape.kv_len, shape.batch],
    };
    let (rows, heads) = match kernel {
        Kernel::Attention | Kernel::Scores => (q_len.saturating_mul(spec.group()), spec.num_kv_heads),
        Kernel::RotateK { .. } => (kv_len, spec.num_kv_heads),
        Kernel::RotateQ { .. } | Kernel::Linear | Kernel::Embed { .. } => (q_len, spec.num_heads),
    };
    let keys = if kernel.rotates_only() { 0 } else { kv_len };
    [spec.head_dim.max(spec.v_head_dim), heads.saturating_mul(sequences), rows, keys]
}

/// The end of the class that a number is in.
fn class(ends: &[u32], n: u32) -> u32 {
    ends.iter().copied().find(|end| n <= *end).unwrap_or(u32::MAX)
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel.name(), self.dtype.name())?;
        let classes = [("d", self.head_dim), ("heads", self.heads), ("rows", self.rows), ("keys", self.keys)];
        for (name, end) in classes {
            match (name, end) {
                ("keys", _) if self.kernel.rotates_only() => {}
                (_, u32::MAX) => write!(f, " {name}-more")?,
                _ => write!(f, " {name}{end}")?,
            }
        }
        let named = TERMS.iter().enumerate().filter(|(bit, _)| self.terms >> bit & 1 == 1);
        let names: Vec<_> = named.map(|(_, name)| *name).collect();
        if names.is_empty() { Ok(()) } else { write!(f, " {}", names.join("+")) }
    }
}

/// Winners of buckets, as [`Limits`] carry them: a set that is made once and kept for the rest of the process, so that limits stay plain
/// values. Making the same set again keeps it once.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tunings(&'static [(String, Tuning)]);

/// The sets that were made so far.
static KEPT: Mutex<Vec<&'static [(String, Tuning)]>> = Mutex::new(Vec::new());

impl Tunings {
    /// Winners by the names of their buckets; of several for one bucket the last, whatever the order of the rest.
    pub fn new(winners: impl IntoIterator<Item = (String, Tuning)>) -> Self {
        let sorted: std::collections::BTreeMap<String, Tuning> = winners.into_iter().collect();
        let set: Vec<_> = sorted.into_iter().collect();
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|known| **known == set.as_slice()).copied();
        Tunings(found.unwrap_or_else(|| {
            let set: &'static [_] = set.leak();
            kept.push(set);
            set
        }))
    }

    /// The winner of a bucket. Whether it suits a call is asked where it is planned.
    pub fn get(&self, bucket: &Bucket) -> Option<Tuning> {
        let name = bucket.to_string();
        let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(&name)).ok()?;
        self.0.get(at).map(|(_, tuning)| *tuning)
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Bucket and winner, sorted by bucket.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Tuning)> {
        self.0.iter().map(|(bucket, tuning)| (bucket.as_str(), *tuning))
    }
}

/// What `ropewalk validate` computes with its listed cases: plans alone, no device.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{self, CaseId, Kernels};
    use crate::tuning::{Family, of_families};
    use crate::{MAX_HEAD_DIM, Mask, Pairing, Plan, Rotary};
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    const AXES: [(&str, &[u32]); 4] = [("head_dim", DIMS), ("heads", HEADS), ("rows", ROWS), ("keys", KEYS)];

    fn devices() -> [(&'static str, Limits); 3] {
        let roomy = Limits { max_workgroup_storage: 49_152, max_invocations: 1024, f16: true, ..Limits::default() };
        [
            ("software adapter", Limits { subgroup_size: 8, ..roomy.for_cpu() }),
            ("plain GPU", Limits::default()),
            ("GPU with subgroups", Limits { subgroup_size: 32, ..roomy }),
        ]
    }

    /// A kernel of a listed case.
    struct Reached {
        kernel: Kernel,
        tuning: Tuning,
        /// Rows and keys.
        tile: [u32; 2],
        /// How many, and keys of one.
        splits: [u32; 2],
        sizes: [u32; 4],
    }

    /// The calls of the listed cases: spec and shape, which no device changes.
    static CALLS: LazyLock<Vec<(CaseId, Kernel, Spec, Shape)>> = LazyLock::new(|| {
        let mut calls = Vec::new();
        for id in case::all() {
            let case = id.build().expect("a listed case");
            // without naga a user's function is refused altogether
            if !cfg!(feature = "naga") && (case.spec.score_mod.is_some() || case.spec.mask_mod.is_some()) {
                continue;
            }
            for plan in case.plans(&Limits::default()).unwrap_or_else(|e| panic!("{id}: {e}")) {
                calls.push((id.clone(), plan.kernel(), plan.spec().clone(), *plan.shape()));
            }
        }
        calls
    });

    /// Every kernel by which a device computes the listed cases.
    fn reached(limits: &Limits) -> Vec<Reached> {
        let mut all = Vec::new();
        // there is one way to embed
        let chosen = CALLS.iter().filter(|(_, kernel, ..)| !matches!(kernel, Kernel::Embed { .. }));
        for (id, kernel, spec, shape) in chosen {
            let call = Call::new(*kernel, spec, shape, limits).expect("a call");
            let planned = Tuning::choose(&call).0;
            let tunings = match id.kernels() {
                Kernels::Planned => vec![None],
                more => Plan::new(*kernel, spec, shape, limits)
                    .and_then(|plan| more.tunings(&plan, limits))
                    .unwrap_or_else(|e| panic!("{id}: {e}")),
            };
            for tuning in tunings.into_iter().map(|tuning| tuning.unwrap_or(planned)) {
                let laid = tuning.family.lay_out(&call, &tuning).unwrap_or_else(|e| panic!("{id}: {e}"));
                all.push(Reached {
                    kernel: *kernel,
                    tuning,
                    tile: laid.tile,
                    splits: laid.splits,
                    sizes: sizes(*kernel, spec, shape),
                });
            }
        }
        all
    }

    /// The classes of an axis, as ranges of sizes.
    fn classes(ends: &[u32]) -> Vec<std::ops::RangeInclusive<u32>> {
        let starts = std::iter::once(1).chain(ends.iter().map(|end| end + 1));
        starts.zip(ends.iter().copied().chain([u32::MAX])).map(|(from, to)| from..=to).collect()
    }

    const ROTATE_Q: [Kernel; 2] = [Kernel::RotateQ { in_place: false }, Kernel::RotateQ { in_place: true }];
    const ROTATE_K: [Kernel; 2] = [Kernel::RotateK { in_place: false }, Kernel::RotateK { in_place: true }];
    const EMBED: [Kernel; 2] = [Kernel::Embed { in_place: false }, Kernel::Embed { in_place: true }];

    /// Every class of every axis, and the last, an inner or the first size at both sides of each end.
    #[test]
    fn listed_cases_reach_every_class_and_both_sides_of_its_end() {
        let all: Vec<_> = CALLS.iter().map(|(_, kernel, spec, shape)| (*kernel, sizes(*kernel, spec, shape))).collect();
        let fused = [Kernel::Attention, Kernel::Scores, Kernel::Linear];
        for kernel in fused.into_iter().chain([ROTATE_Q, ROTATE_K, EMBED].into_iter().flatten()) {
            // rows of absolute systems are wider than heads
            let most = if EMBED.contains(&kernel) { u32::MAX } else { MAX_HEAD_DIM };
            for (axis, (name, ends)) in AXES.into_iter().enumerate() {
                if kernel.rotates_only() && name == "keys" {
                    continue;
                }
                let here = all.iter().filter(|(of, _)| *of == kernel);
                let sizes: BTreeSet<u32> = here.filter_map(|(_, sizes)| sizes.get(axis).copied()).collect();
                for class in classes(ends).iter().filter(|class| name != "head_dim" || *class.start() <= most) {
                    assert!(sizes.range(class.clone()).next().is_some(), "{kernel:?}: no case has {name} in {class:?}");
                }
                for n in ends.iter().flat_map(|end| [end - 1, *end, end + 1]) {
                    let possible = name != "head_dim" || n <= most;
                    assert!(!possible || sizes.contains(&n), "{kernel:?}: no case has {name} {n}");
                }
            }
        }
    }

    /// What one head of one sequence gets in a class.
    fn offered(kernel: Kernel, limits: &Limits, [dim, heads, rows, keys]: [u32; 4]) -> Vec<Family> {
        let mut spec = Spec::new(heads, heads, dim);
        (spec.mask, spec.rotary) = (Mask::causal(), Some(Rotary::new(Pairing::Half, dim / 2 * 2, 1e4)));
        let shape = match kernel {
            Kernel::RotateK { .. } => Shape::new(&spec, 1, keys, rows),
            _ => Shape::new(&spec, 1, rows, keys),
        };
        let mut families: Vec<_> =
            Call::new(kernel, &spec, &shape, limits).iter().flat_map(of_families).map(|t| t.family).collect();
        families.dedup();
        families
    }

    /// A family that a device offers somewhere in a class computes a listed case of that class.
    #[test]
    fn listed_cases_reach_every_family_in_every_class_that_it_takes() {
        let mut seen = BTreeSet::new();
        for (device, limits) in devices() {
            let all = reached(&limits);
            seen.extend(all.iter().map(|r| r.tuning.family.name()));
            for kernel in [&[Kernel::Attention][..], &ROTATE_Q, &ROTATE_K].concat() {
                for (axis, (name, ends)) in AXES.into_iter().enumerate() {
                    let of_axis = if kernel.rotates_only() && name == "keys" { Vec::new() } else { classes(ends) };
                    for class in of_axis {
                        // few rows and more, which are for other families
                        let mut families = Vec::new();
                        for rows in [5, 17] {
                            let mut sizes = [32, 1, rows, 33];
                            // the end, of the last class the start
                            let end = if *class.end() == u32::MAX { *class.start() } else { *class.end() };
                            sizes.iter_mut().skip(axis).take(1).for_each(|size| *size = end);
                            if sizes[0] <= MAX_HEAD_DIM {
                                families.extend(offered(kernel, &limits, sizes));
                            }
                        }
                        for family in families {
                            let here = |r: &&Reached| r.kernel == kernel && r.tuning.family == family;
                            let met =
                                all.iter().filter(here).any(|r| r.sizes.get(axis).is_some_and(|n| class.contains(n)));
                            assert!(
                                met,
                                "{device}, {kernel:?}: no case reaches {} with {name} in {class:?}",
                                family.name()
                            );
                        }
                    }
                }
            }
        }
        // matrices take a cargo feature, and a device that was opened for them
        let every: BTreeSet<_> = Family::ALL.iter().filter(|f| **f != Family::Coop).map(|f| f.name()).collect();
        assert_eq!(seen, every);
    }

    /// Both sides of every edge at which a family cuts its work.
    #[test]
    fn listed_cases_stand_at_both_sides_of_every_tile() {
        // which of the sides of a multiple of `by` a size is at
        let side = |n: u32, by: u32| [by - 1, 0, 1].iter().position(|rest| n % by == *rest && n + 1 >= by);
        for (device, limits) in devices() {
            let all = reached(&limits);
            let meets = |what: &str, sizes: &mut dyn Iterator<Item = u32>, by: u32| {
                let found: BTreeSet<usize> = sizes.filter_map(|n| side(n, by)).collect();
                assert_eq!(found.len(), 3, "{device}: of {what} only sides {found:?} of multiples of {by} occur");
            };
            let of = |family: Family| all.iter().filter(move |r| r.tuning.family == family);
            let tiles = |family: Family, kernel: Kernel| -> BTreeSet<[u32; 2]> {
                of(family).filter(|r| r.kernel == kernel).map(|r| r.tile).collect()
            };
            for family in [Family::Rows, Family::Lanes, Family::Tile, Family::Decode] {
                for tile in tiles(family, Kernel::Attention) {
                    let here = || of(family).filter(|r| r.kernel == Kernel::Attention && r.tile == tile);
                    let name = format!("{} {tile:?}", family.name());
                    // wide heads of the row kernel have a tile of keys each; a workgroup of decode takes all rows
                    let rare = family == Family::Rows && ![32, 28, 21, 16].contains(&tile[1]);
                    if !rare {
                        meets(&format!("{name}, keys"), &mut here().map(|r| r.sizes[3]), tile[1]);
                    }
                    if !rare && tile[1] == 32 && family != Family::Decode {
                        meets(&format!("{name}, rows"), &mut here().map(|r| r.sizes[2]), tile[0]);
                    }
                }
            }
            // every tile that there is for a head_dim of 64
            let wanted = offered_tiles(&limits);
            let found: BTreeSet<[u32; 2]> = tiles(Family::Tile, Kernel::Attention);
            assert!(wanted.is_subset(&found), "{device}: {found:?} of {wanted:?}");
            // decode: groups of four rows, the most rows, and splits of keys
            let rows: BTreeSet<u32> = of(Family::Decode).map(|r| r.sizes[2]).collect();
            for n in [1, 3, 4, 5, 7, 8, 9, 15, 16] {
                assert!(rows.contains(&n), "{device}: no decode of {n} rows");
            }
            assert!(rows.iter().all(|n| *n <= 16) && all.iter().any(|r| r.sizes[2] == 17));
            let splits = of(Family::Decode).filter(|r| r.splits[0] > 1);
            let found: BTreeSet<usize> = splits.filter_map(|r| side(r.sizes[3], r.splits[1])).collect();
            assert_eq!(found.len(), 3, "{device}: sides {found:?} of splits");
            // rotations: tokens of neighbouring lanes, heads of a lane
            for kernel in ROTATE_Q {
                let turns = || of(Family::Turns).filter(move |r| r.kernel == kernel);
                for across in turns().map(|r| r.tuning.tile_q).filter(|n| *n > 1).collect::<BTreeSet<_>>() {
                    let here = turns().filter(|r| r.tuning.tile_q == across);
                    meets("turns, tokens", &mut here.map(|r| r.sizes[2]), across);
                }
                for heads in turns().map(|r| r.tuning.tile_k).filter(|n| *n > 0).collect::<BTreeSet<_>>() {
                    let here = turns().filter(|r| r.tuning.tile_k == heads);
                    meets("turns, heads", &mut here.map(|r| r.sizes[1]), heads);
                }
            }
        }
    }

    fn offered_tiles(limits: &Limits) -> BTreeSet<[u32; 2]> {
        let spec = Spec::new(1, 1, 64);
        let all = Tuning::candidates(Kernel::Attention, &spec, &Shape::new(&spec, 1, 130, 130), limits);
        let tiles = all.into_iter().flatten().filter(|t| t.family == Family::Tile);
        tiles.map(|t| [t.tile_q, t.tile_k]).collect()
    }

    /// Addresses of kernels read back.
    #[test]
    fn kernels_of_addresses_read_back() {
        for text in ["rows", "tile", "tile-q64k32", "decode-q8k32s16-unchecked", "turns-q1", "lanes-unchecked"] {
            let address = format!("attention/control/q5k5/f32/seed1/{text}");
            assert_eq!(address.parse::<CaseId>().map(|id| id.to_string()), Ok(address));
        }
        for text in
            ["tiles", "tile-", "tile-k32q64", "tile-q0k32", "tile-q064", "tile-q64k32-", "tile-q99999999999", ""]
        {
            assert!(text.parse::<Tuning>().is_err(), "{text}");
        }
    }

    /// A kernel of an address is found by family or in full, with run-time checks and without, and nothing else is.
    #[test]
    fn kernels_of_addresses_are_found() {
        let spec = Spec::new(2, 1, 64);
        let shape = Shape::new(&spec, 1, 130, 130);
        for (device, limits) in devices() {
            let plan = Plan::new(Kernel::Attention, &spec, &shape, &limits).expect("a plan");
            let found = |text: &str| {
                let wanted = text.parse().expect(text);
                Kernels::Only(wanted)
                    .tunings(&plan, &limits)
                    .map(|all| all.iter().flatten().next().map(Tuning::to_string))
            };
            for tile in offered_tiles(&limits).iter().map(|[q, k]| format!("tile-q{q}k{k}")) {
                assert_eq!(found(&tile), Ok(Some(tile.clone())), "{device}");
            }
            // the best guess of a family drops its checks where the planner does
            let dropped = found("tile").expect("suits").is_some_and(|tile| tile.ends_with("-unchecked"));
            assert_eq!(dropped, !limits.cpu, "{device}");
            let best = found("rows").expect("suits").expect("one");
            for text in [format!("{best}-unchecked"), "rows-unchecked".to_string()] {
                assert_eq!(found(&text), Ok(Some(format!("{best}-unchecked"))), "{device}");
            }
            for text in ["tile-q8k8", "lanes-unchecked", "decode-q1k1s1"] {
                assert!(matches!(found(text), Err(crate::Error::Limit { .. })), "{device}: {text}");
            }
        }
    }
}
