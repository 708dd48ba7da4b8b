//! How often the loops of an entry point run. A listing does not say it; what the kernel has to do does: multiply-adds and loads are
//! conserved. Here stands what the model knows of each family's structure, and it changes with the kernels.

use crate::compile::{Entry, PlanFacts};
use crate::listing::{Counts, below, root};

/// What a workgroup does, in the counts of one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// In a unit, of which a workgroup has several: a tile of keys. The mean of its subgroups.
    pub unit: Counted,
    /// The same of the subgroup that has most to do.
    pub longest: Counted,
    /// Once.
    pub once: Counted,
    /// Units of each workgroup, dispatch by dispatch, in the order in which they start.
    pub units: Vec<Vec<f64>>,
}

/// Instructions that ran, with the rounds of their loops.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    pub fma: f64,
    /// Other instructions of lanes.
    pub valu: f64,
    /// All others.
    pub other: f64,
    pub multiply_adds: f64,
    pub matrix: f64,
    pub shared_bytes: f64,
    /// Times that a lane waits for loads, one after the other.
    pub trips: f64,
}

impl Counted {
    fn add(&mut self, counts: &Counts, rounds: f64) {
        let valu = counts.valu + counts.special;
        self.fma += rounds * counts.fma as f64;
        self.valu += rounds * valu as f64;
        self.matrix += rounds * counts.matrix as f64;
        self.other += rounds * (counts.instructions - counts.fma - valu - counts.matrix) as f64;
        self.multiply_adds += rounds * counts.multiply_adds;
        self.shared_bytes += rounds * counts.shared_bytes as f64;
        if counts.loads > 0 {
            self.trips += rounds * counts.load_bytes as f64 / counts.bytes_in_flight.max(1) as f64;
        }
    }
}

/// What the model makes of an entry point; none where it does not know the family's structure.
pub fn of(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let family = plan.tuning.split('-').next().unwrap_or("");
    match (family, entry.entry.as_str()) {
        ("tile", "main") => tile(entry, plan),
        ("block", "main") => block(entry, plan),
        ("coop", "main") => coop(entry, plan),
        ("decode", "main") => decode(entry, plan),
        ("wide", "main") => wide(entry, plan),
        ("wide", "combine") => combine_wide(entry, plan),
        (_, "main") if !plan.kernel.starts_with("rotate") => None,
        _ => Some(pass(entry, plan)),
    }
}

/// What no loop holds.
fn outside(entry: &Entry) -> Counts {
    let mut rest = entry.figures.whole.clone();
    for one in &entry.figures.loops {
        rest.instructions -= one.instructions;
        rest.fma -= one.fma;
        rest.matrix -= one.matrix;
        rest.valu -= one.valu;
        rest.special -= one.special;
        rest.multiply_adds -= one.multiply_adds;
        rest.shared_bytes -= one.shared_bytes;
        rest.loads -= one.loads;
        rest.load_bytes -= one.load_bytes;
    }
    rest
}

/// Two products a tile of keys; S in slices of the head, O in slices of values, each staged by loads.
fn tile(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let loops = &entry.figures.loops;
    let constant = |name: &str| plan.constants.get(name).map(|n| *n as f64);
    let [tile_q, tile_k] = plan.tile.map(|n| n as f64);
    let lanes = entry.lanes as f64;
    let root = root(loops)?;
    let inside = |i: usize| i != root && below(loops, i, root);
    let leaf = |i: usize| !loops.iter().any(|one| one.within == Some(i));
    // the two loops with the most multiply-adds a round: S reads more of workgroup memory for each
    let mut products: Vec<usize> = (0..loops.len()).filter(|i| inside(*i) && leaf(*i)).collect();
    products.sort_by(|a, b| loops[*b].multiply_adds.total_cmp(&loops[*a].multiply_adds));
    products.truncate(2);
    let a_multiply_add = |i: &usize| loops[*i].shared_bytes as f64 / loops[*i].multiply_adds.max(1.0);
    products.sort_by(|a, b| a_multiply_add(b).total_cmp(&a_multiply_add(a)));
    let [scores, values] = products[..] else { return None };
    if loops[values].multiply_adds < 8.0 {
        return None;
    }

    let mut rounds = vec![0.0; loops.len()];
    rounds[root] = 1.0;
    let slices = [constant("HEAD_CHUNKS")? / constant("SLICE_CHUNKS")?, tile_k / constant("VALUE_KEYS")?];
    let folds = constant("HEAD_CHUNKS")? / constant("FOLD")?;
    let operand = |rows: f64, dim: u32, bytes: u32| rows * (dim * bytes) as f64 / lanes;
    let staged = [operand(tile_q + tile_k, plan.head_dim, 4), operand(tile_k, plan.v_head_dim, plan.element)];
    let dims = [plan.head_dim, plan.v_head_dim];
    for (n, product) in [scores, values].into_iter().enumerate() {
        rounds[product] = tile_q * tile_k * dims[n] as f64 / lanes / loops[product].multiply_adds;
        // the loops around it: slices, and within them sums of some products
        let around: Vec<usize> =
            (0..loops.len()).filter(|i| inside(*i) && *i != product && below(loops, product, *i)).collect();
        for i in &around {
            rounds[*i] = if loops[*i].within == Some(root) { slices[n].ceil() } else { folds };
        }
        // what they do not load themselves the loops beside the product load
        let own: f64 = around.iter().map(|i| rounds[*i] * loops[*i].load_bytes as f64).sum();
        let stages: Vec<usize> = (0..loops.len())
            .filter(|i| leaf(*i) && loops[*i].loads > 0 && around.iter().any(|a| loops[*i].within == Some(*a)))
            .collect();
        for i in &stages {
            let left = (staged[n] - own).max(0.0) / stages.len() as f64;
            rounds[*i] = left / loops[*i].load_bytes.max(1) as f64;
        }
    }
    // what is left walks over a lane's keys: scores to weights
    let keys = tile_k / constant("KEY_LANES")?;
    for i in (0..loops.len()).filter(|i| inside(*i) && leaf(*i) && loops[*i].loads == 0 && !products.contains(i)) {
        rounds[i] = keys;
    }
    let mut unit = Counted::default();
    loops.iter().zip(&rounds).for_each(|(one, rounds)| unit.add(one, *rounds));
    let mut once = Counted::default();
    once.add(&outside(entry), 1.0);
    Some(Work { unit, longest: unit, once, units: tiles_of_keys(plan) })
}

/// Two products a tile of keys, each in a loop over slices; what is left of the tile runs once.
fn block(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let loops = &entry.figures.loops;
    let constant = |name: &str| plan.constants.get(name).map(|n| *n as f64);
    let [tile_q, tile_k] = plan.tile.map(|n| n as f64);
    let lanes = entry.lanes as f64;
    let root = root(loops)?;
    let inside = |i: usize| i != root && below(loops, i, root);
    let leaf = |i: usize| !loops.iter().any(|one| one.within == Some(i));
    // the loops with the most multiply-adds a round: of S the first; the values of each half may have one of their own
    let mut products: Vec<usize> = (0..loops.len()).filter(|i| inside(*i) && leaf(*i)).collect();
    let most = products.iter().map(|i| loops[*i].multiply_adds).fold(0.0, f64::max);
    products.retain(|i| loops[*i].multiply_adds > most / 8.0 && loops[*i].multiply_adds > 8.0);
    products.sort_unstable();
    let (scores, values) = products.split_first()?;
    let mut rounds = vec![0.0; loops.len()];
    rounds[root] = 1.0;
    let of = |dim: u32| tile_q * tile_k * dim as f64 / lanes;
    rounds[*scores] = of(plan.head_dim) / loops[*scores].multiply_adds;
    let each: f64 = values.iter().map(|i| loops[*i].multiply_adds).sum();
    values.iter().for_each(|i| rounds[*i] = of(plan.v_head_dim) / each);
    let slices = [constant("ROW_PADDED")? / constant("SLICE_DIM")?, tile_k / constant("SLICE_KEYS")?];
    for product in &products {
        let all = if product == scores { slices[0] } else { slices[1] / values.len() as f64 };
        let around: Vec<usize> =
            (0..loops.len()).filter(|i| inside(*i) && i != product && below(loops, *product, *i)).collect();
        // the nearest walks over slices, others over halves of the tile
        for i in around {
            rounds[i] = if loops[*product].within == Some(i) { all } else { 1.0 };
        }
    }
    // what has neither loads nor products walks over a lane's scores, where something is done to them
    let of_lane = tile_q * tile_k / lanes / 4.0;
    let rest = |i: &usize| inside(*i) && leaf(*i) && !products.contains(i);
    (0..loops.len()).filter(rest).for_each(|i| rounds[i] = of_lane);
    let (mut unit, mut once) = (Counted::default(), Counted::default());
    loops.iter().zip(&rounds).for_each(|(one, rounds)| unit.add(one, *rounds));
    once.add(&outside(entry), 1.0);
    Some(Work { unit, longest: unit, once, units: tiles_of_keys(plan) })
}

/// Units of every workgroup of `main`, where a unit is a tile of keys that its rows see.
fn tiles_of_keys(plan: &PlanFacts) -> Vec<Vec<f64>> {
    let dispatches = plan.dispatches.iter().filter(|one| one.entry == "main").map(|dispatch| {
        let [x, y, z] = dispatch.workgroups;
        let of = |i: u32| plan.key_tiles(dispatch.first + x - 1 - i);
        // `coop` goes over all heads before it takes the next tile of rows
        match plan.tuning.starts_with("coop") {
            true => (0..x).flat_map(|i| vec![of(i); (y * z) as usize]).collect(),
            false => (0..y * z).flat_map(|_| (0..x).map(of)).collect(),
        }
    });
    dispatches.collect()
}

/// Two products a tile of keys on matrix units, both in the body of the loop over tiles. What a round may pass by is for tiles that are partly masked, scores that
/// are not finite, and rows whose largest score grew by far: few.
fn coop(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let (mut unit, mut once) = (Counted::default(), Counted::default());
    unit.add(entry.figures.always.get(root(&entry.figures.loops)?)?, 1.0);
    once.add(&outside(entry), 1.0);
    Some(Work { unit, longest: unit, once, units: tiles_of_keys(plan) })
}

/// Keys, then values of a split, each loaded once.
fn decode(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let loops = &entry.figures.loops;
    let root = root(loops)?;
    let tile_k = plan.tile[1] as f64;
    let bytes = |dim: u32, element: u32| tile_k * (dim * element) as f64 / entry.lanes as f64;
    let keys = bytes(plan.head_dim, if plan.prepares_keys() { 4 } else { plan.element });
    let values = bytes(plan.v_head_dim, plan.element);
    let mut loading: Vec<usize> = (0..loops.len()).filter(|i| below(loops, *i, root) && loops[*i].loads > 0).collect();
    loading.sort_by_key(|i| std::cmp::Reverse(loops[*i].load_bytes));
    let mut unit = Counted::default();
    unit.add(&loops[root], 1.0);
    // the wider batch is the keys'
    for (i, bytes) in loading.into_iter().filter(|i| *i != root).zip([keys, values]) {
        unit.add(&loops[i], bytes / loops[i].load_bytes as f64);
    }
    let mut once = Counted::default();
    once.add(&outside(entry), 1.0);
    Some(Work { unit, longest: unit, once, units: units_of_splits(entry, plan) })
}

/// Keys and values of a split, a tile at a time: every load of one is in the loop's own body.
fn wide(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let loops = &entry.figures.loops;
    let root = root(loops)?;
    if (0..loops.len()).any(|i| i != root && below(loops, i, root) && loops[i].loads > 0) {
        return None;
    }
    let (mut unit, mut once) = (Counted::default(), Counted::default());
    unit.add(&loops[root], 1.0);
    once.add(&outside(entry), 1.0);
    Some(Work { unit, longest: unit, once, units: units_of_splits(entry, plan) })
}

/// Tiles of keys of every workgroup, where the keys are split over them.
fn units_of_splits(entry: &Entry, plan: &PlanFacts) -> Vec<Vec<f64>> {
    let of = |dispatch: &crate::compile::Dispatch| {
        let [x, y, z] = dispatch.workgroups;
        vec![(plan.kv_len as f64 / x as f64 / plan.tile[1] as f64).ceil(); (x * y * z) as usize]
    };
    plan.dispatches.iter().filter(|one| one.entry == entry.entry).map(of).collect()
}

/// The parts of a row, a column of them a lane: the widest loop in batches, those over their sums a part a lane.
fn combine_wide(entry: &Entry, plan: &PlanFacts) -> Option<Work> {
    let loops = &entry.figures.loops;
    let splits = plan.dispatches.iter().filter(|one| one.entry == "main").map(|one| one.workgroups[0]).max()? as f64;
    let columns = *plan.constants.get("COLUMNS")? as f64;
    let lanes = entry.lanes as f64;
    let widest = (0..loops.len()).max_by_key(|i| loops[*i].load_bytes)?;
    let mut once = Counted::default();
    once.add(&outside(entry), 1.0);
    for (i, one) in loops.iter().enumerate() {
        let rounds = match () {
            _ if i == widest => (16.0 * splits * columns / lanes / one.load_bytes.max(1) as f64).ceil(),
            _ if one.loads > 0 => (splits / lanes).ceil(),
            // a lane's eighth
            _ => lanes / 8.0,
        };
        once.add(one, rounds);
    }
    let units = entry.dispatches.iter().map(|[x, y, z]| vec![0.0; (x * y * z) as usize]);
    let none = Counted::default();
    Some(Work { unit: none, longest: none, once, units: units.collect() })
}

/// A pass over rows, before or after: the loop with the most bytes loads a lane's share of what is read; one over private memory
/// walks over the pairs of a row; others over what a lane merges.
fn pass(entry: &Entry, plan: &PlanFacts) -> Work {
    let loops = &entry.figures.loops;
    let widest = (0..loops.len()).filter(|i| loops[*i].loads > 0).max_by_key(|i| loops[*i].load_bytes);
    let lanes = lanes_of(entry);
    let splits = plan.dispatches.iter().filter(|one| one.entry == "main").map(|one| one.workgroups[0]).max();
    let mut once = Counted::default();
    once.add(&outside(entry), 1.0);
    for (i, one) in loops.iter().enumerate() {
        let rounds = match () {
            _ if entry.entry == "combine" => splits.unwrap_or(1) as f64,
            _ if one.scratch > 0 => plan.constants.get("PAIRS").copied().unwrap_or(1) as f64,
            _ if Some(i) == widest => plan.read_by(&entry.entry) / lanes / one.load_bytes as f64,
            _ => 0.0,
        };
        once.add(one, rounds);
    }
    let units = entry.dispatches.iter().map(|[x, y, z]| vec![0.0; (x * y * z) as usize]);
    let none = Counted::default();
    Work { unit: none, longest: none, once, units: units.collect() }
}

/// Lanes of all dispatches.
fn lanes_of(entry: &Entry) -> f64 {
    let workgroups: f64 = entry.dispatches.iter().map(|[x, y, z]| (*x as f64) * (*y as f64) * (*z as f64)).sum();
    workgroups * entry.lanes as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Dispatch, Figures};

    fn counts(within: Option<usize>, multiply_adds: f64, load_bytes: u32, other: u32) -> Counts {
        let (fma, loads) = (multiply_adds as u32, load_bytes / 16);
        Counts {
            within,
            multiply_adds,
            fma,
            shared: 1,
            shared_bytes: (multiply_adds * if other == 2 { 1.5 } else { 1.0 }) as u32,
            loads,
            load_bytes,
            bytes_in_flight: 16.min(load_bytes),
            instructions: fma + 1 + loads + other,
            ..Counts::default()
        }
    }
    fn entry(loops: Vec<Counts>, lanes: u32) -> Entry {
        let mut whole = Counts { instructions: 10, ..Counts::default() };
        for one in &loops {
            whole.instructions += one.instructions;
            whole.fma += one.fma;
            whole.matrix += one.matrix;
            whole.multiply_adds += one.multiply_adds;
            whole.shared_bytes += one.shared_bytes;
            whole.loads += one.loads;
            whole.load_bytes += one.load_bytes;
        }
        Entry {
            workload: "p".into(),
            kernel: "attention".into(),
            entry: "main".into(),
            tuning: String::new(),
            lanes,
            dispatches: vec![],
            figures: Figures { loops, whole, subgroup: 32, ..Figures::default() },
        }
    }
    fn plan(tuning: &str, tile: [u32; 2], constants: &[(&str, u32)], dispatches: &[(u32, [u32; 3])]) -> PlanFacts {
        let dispatch = |(first, workgroups): &(u32, [u32; 3])| Dispatch {
            entry: "main".into(),
            first: *first,
            workgroups: *workgroups,
        };
        PlanFacts {
            kernel: "attention".into(),
            tuning: tuning.into(),
            tile,
            heads: 8,
            kv_heads: 2,
            head_dim: 128,
            v_head_dim: 128,
            q_len: 64,
            kv_len: 128,
            causal: true,
            element: 4,
            constants: constants.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
            dispatches: dispatches.iter().map(dispatch).collect(),
            ..PlanFacts::default()
        }
    }

    #[test]
    fn a_tile_keeps_its_products_and_loads() {
        let loops = vec![
            counts(None, 0.0, 0, 100),    // tiles of keys
            counts(Some(0), 0.0, 32, 5),  // slices of the head: keys
            counts(Some(1), 0.0, 16, 3),  // queries
            counts(Some(1), 0.0, 0, 7),   // folds
            counts(Some(3), 128.0, 0, 2), // S
            counts(Some(0), 0.0, 0, 11),  // a lane's keys
            counts(Some(0), 0.0, 144, 5), // slices of values
            counts(Some(6), 0.0, 16, 3),  // values that a slice does not load itself: none
            counts(Some(6), 64.0, 0, 4),  // O
            counts(None, 0.0, 16, 50),    // strays
        ];
        let constants = [("HEAD_CHUNKS", 32), ("SLICE_CHUNKS", 8), ("VALUE_KEYS", 34), ("FOLD", 4), ("KEY_LANES", 16)];
        let plan = plan("tile-q64k64", [64, 64], &constants, &[(0, [3, 2, 1]), (3, [1, 2, 1])]);
        let entry = entry(loops, 128);
        let work = of(&entry, &plan).unwrap();
        assert_eq!(work.unit.multiply_adds, 8192.0);
        // 512 bytes of queries and keys; 288 of values, in two slices
        assert_eq!(work.unit.trips, 512.0 / 16.0 + 288.0 / 16.0);
        let loops = [101.0, 4.0 * 8.0, 24.0 * 5.0, 8.0 * 8.0, 32.0 * 131.0, 4.0 * 12.0, 2.0 * 15.0, 64.0 * 69.0];
        let ran = work.unit.fma + work.unit.valu + work.unit.other;
        assert_eq!(ran, loops.iter().sum::<f64>());
        assert_eq!((work.once.other, work.once.trips), (10.0, 0.0));
        // 64 rows are 16 tokens; the first sees 64 + 16 keys of 128
        assert_eq!(work.units, [vec![2.0; 6], vec![2.0; 2]]);
        assert_eq!(plan.key_tiles(0), 2.0);
    }

    #[test]
    fn a_split_loads_its_keys_and_values_once() {
        let loops = vec![counts(None, 0.0, 0, 20), counts(Some(0), 140.0, 144, 2), counts(Some(0), 16.0, 16, 4)];
        let plan = plan("decode-q8k32", [8, 32], &[], &[(0, [2, 2, 1])]);
        let work = of(&entry(loops, 64), &plan).unwrap();
        assert!((work.unit.trips - 2.0 * 256.0 / 16.0).abs() < 1e-9);
        assert_eq!(work.units, [[2.0; 4]]);
    }

    #[test]
    fn matrix_units_multiply_in_every_round_and_shrink_in_few() {
        let counted = |many: u32| Counts { matrix: 64, instructions: 64 + many, ..Counts::default() };
        let mut entry = entry(vec![counted(300), counts(Some(0), 0.0, 0, 9)], 128);
        entry.figures.always = vec![counted(100), counts(Some(0), 0.0, 0, 9)];
        let plan = plan("coop-q128k32", [128, 32], &[], &[(0, [2, 1, 1])]);
        let work = of(&entry, &plan).unwrap();
        assert_eq!((work.unit.matrix, work.unit.other, work.once.other), (64.0, 100.0, 10.0));
        assert_eq!(work.units, [[4.0, 3.0]]);
    }
}
