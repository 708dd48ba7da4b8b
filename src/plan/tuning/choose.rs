//! What a call gets: the tuning that `Limits` ask for, else the winner of its bucket, else the first line of the table that is about it;
//! each is passed over where it does not suit the call.

use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::shape::Shape;
use crate::plan::call::Call;
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::bucket::{Bucket, DIMS, HEADS, KEYS, ROWS, class, sizes};
use crate::plan::tuning::table::{NOT_MEASURED, Source, TABLE};
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::files;

impl Tuning {
    /// Every tuning that a plan may take, the best guess of each family first: what `ropewalk tune` measures and `validate` exercises.
    /// On GPUs each comes with and, where the host bounds every index, without run-time checks; on software adapters only with them,
    /// since dropping them makes some of those slower ([`Tuning::without_checks`] still gives such a one).
    ///
    /// # Errors
    /// Those of [`Plan::new`](crate::Plan::new) for the spec, the shape and the limits.
    pub fn candidates(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> Result<Vec<Self>> {
        let call = Call::new(kernel, spec, shape, limits)?;
        let all = of_families(&call);
        let without = all.iter().map(|tuning| tuning.without_checks());
        let without: Vec<_> = without.filter(|tuning| !limits.cpu && tuning.suits(&call)).collect();
        Ok(all.into_iter().chain(without).collect())
    }
    /// What a call gets, and where that is written: what `limits` ask for, else the winner of its bucket, else the table's first line
    /// that is about it. What does not suit the call is passed over.
    pub(crate) fn choose(call: &Call) -> (Self, Source) {
        if let Some(wanted) = call.limits.tuning {
            // a family alone, without numbers
            let alone = || Tuning::of_family(call, wanted.family).filter(|_| wanted == Tuning::of(wanted.family));
            if let Some(tuning) = Some(wanted).filter(|t| t.suits(call)).or_else(alone) {
                return (tuning, Source::Asked);
            }
        }
        let stored = || call.limits.tunings.get(&Bucket::of(call));
        if let Some(tuning) = Some(call.limits.tunings).filter(|t| !t.is_empty()).and_then(|_| stored())
            && tuning.suits(call)
        {
            return (tuning, Source::Stored);
        }
        self::choose(call)
    }
    /// What a family alone stands for, with the numbers and the checks of the table; none where it does not suit.
    pub(crate) fn of_family(call: &Call, family: Family) -> Option<Self> {
        self::of_family(call, family)
    }
    /// Itself, where a call may take it.
    pub(crate) fn check(self, call: &Call) -> Result<Self> {
        if self.suits(call) {
            return Ok(self);
        }
        let checked = Tuning { checks: true, ..self };
        let (problem, help) = match checked.suits(call).then(|| self.keeps_checks(call)).flatten() {
            Some((file, why)) => (
                format!("{self:?} drops run-time checks that the shader keeps: {file}: {why}"),
                "take it with checks: true",
            ),
            None => {
                (format!("{self:?} does not suit the spec, the shape or the device"), "take one of Tuning::candidates")
            }
        };
        Err(Error::spec("tuning", problem, help))
    }
    /// Whether a plan may take it.
    pub(crate) fn suits(self, call: &Call) -> bool {
        let checked = Tuning { checks: true, ..self };
        self.family.candidates(call).contains(&checked) && (self.checks || self.keeps_checks(call).is_none())
    }
    /// The first file of its shader that needs run-time checks, and why.
    fn keeps_checks(self, call: &Call) -> Option<(&'static str, &'static str)> {
        match self.family.lay_out(call, &self) {
            Ok(laid) => files::keeps_checks(&ShaderFiles::new(call, &self, laid.carry, laid.products.gathered).files),
            Err(_) => Some(("(plan)", "it cannot be laid out")),
        }
    }
}

/// The candidates of every family, all with run-time checks.
pub(crate) fn of_families(call: &Call) -> Vec<Tuning> {
    Family::ALL.iter().flat_map(|family| family.candidates(call)).collect()
}

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
            scores && mask.bands().any(|band| band.causal()),
            scores && mask.bands().any(|band| !band.causal()),
            scores && mask.dense,
            spec.packed,
            spec.rotary.is_some(),
            scores && spec.keys_rotated(),
            scores
                && (spec.rotates_values()
                    || spec.relative.iter().any(|r| r.side == crate::equation::relative::RelativeSide::Value)),
            spec.norm.is_some(),
            scores && !spec.relative.is_empty(),
            scores && !spec.bias.is_empty(),
            scores && spec.dense_bias,
            scores && spec.logits_soft_cap.is_some(),
            scores && (spec.score_mod.is_some() || spec.mask_mod.is_some()),
            spec.linear.is_some(),
            [spec.k_storage(), spec.v_storage(), spec.out_storage()] != [spec.dtype; 3],
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

/// What a family alone stands for: its first line that is about a call and suits it; without one its best guess.
pub(crate) fn of_family(call: &Call, family: Family) -> Option<Tuning> {
    let (bucket, all) = (Bucket::of(call), of_families(call));
    let line = TABLE.iter().filter(|line| line.family == family).find_map(|line| line.tuning(call, &bucket, &all));
    line.or_else(|| all.into_iter().find(|t| t.family == family))
}

/// The first line that is about a call and suits it; without one the first candidate.
pub(crate) fn choose(call: &Call) -> (Tuning, Source) {
    let (bucket, all) = (Bucket::of(call), of_families(call));
    // a family without a line goes before those that have one
    let silent = |t: &&Tuning| TABLE.iter().all(|line| line.family != t.family);
    if let Some(tuning) = all.iter().find(silent) {
        return (*tuning, NOT_MEASURED);
    }
    let line = TABLE.iter().find_map(|line| Some((line.tuning(call, &bucket, &all)?, line.source)));
    line.unwrap_or_else(|| (all.first().copied().unwrap_or(Tuning::of(Family::Rows)), NOT_MEASURED))
}

/// What `ropewalk validate` computes with its listed cases: plans alone, no device.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::case;
    use crate::catalogue::case::CaseId;
    use crate::catalogue::case::Kernels;
    use crate::equation::defaults::MAX_HEAD_DIM;
    use crate::equation::mask::Mask;
    use crate::equation::rotary::rotary::Pairing;
    use crate::equation::rotary::rotary::Rotary;
    use crate::equation::spec::Spec;
    use crate::inputs::shape::Shape;
    use crate::plan::call::Call;
    use crate::plan::kernel::Kernel;
    use crate::plan::limits::Limits;
    use crate::plan::plan::Plan;
    use crate::plan::tuning::bucket::DIMS;
    use crate::plan::tuning::bucket::HEADS;
    use crate::plan::tuning::bucket::KEYS;
    use crate::plan::tuning::bucket::ROWS;
    use crate::plan::tuning::bucket::sizes;
    use crate::plan::tuning::tuning::Family;
    use crate::plan::tuning::tuning::Tuning;
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
            let most = match kernel {
                Kernel::Linear => crate::equation::linear::MAX_DIM,
                _ if EMBED.contains(&kernel) => u32::MAX,
                _ => MAX_HEAD_DIM,
            };
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
            for family in [Family::Rows, Family::Lanes, Family::Block, Family::Tile, Family::Decode] {
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
            for keys in [32, 64, 128].into_iter().filter(|_| !limits.cpu) {
                let here = of(Family::Wide).filter(|r| r.tile[1] == keys);
                meets(&format!("wide, tiles of {keys}, keys"), &mut here.map(|r| r.sizes[3]), keys);
            }
            // groups of four rows, the most rows, and splits of keys
            for family in [Family::Decode, Family::Wide] {
                let rows: BTreeSet<u32> = of(family).map(|r| r.sizes[2]).collect();
                for n in [1, 3, 4, 5, 7, 8, 9, 15, 16] {
                    assert!(rows.contains(&n), "{device}: no {} of {n} rows", family.name());
                }
                assert!(rows.iter().all(|n| *n <= 16) && all.iter().any(|r| r.sizes[2] == 17));
                let splits = of(family).filter(|r| r.splits[0] > 1);
                let found: BTreeSet<usize> = splits.filter_map(|r| side(r.sizes[3], r.splits[1])).collect();
                assert_eq!(found.len(), 3, "{device}: sides {found:?} of splits of {}", family.name());
            }
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
                assert!(matches!(found(text), Err(crate::error::Error::Limit { .. })), "{device}: {text}");
            }
        }
    }
}
