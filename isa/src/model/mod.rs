//! Predictions: the time of a plan on a card that is not there. docs/model.md derives it.

mod machine;
mod rounds;
mod schedule;

use crate::compile::{Entry, PlanFacts, Run};
use machine::{COPY, MACHINES, Machine};
use rounds::{Counted, Work};
use schedule::Job;
use serde::Serialize;

/// What a plan is predicted to take.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    pub product: &'static str,
    pub workload: String,
    /// Seconds of a step, its dispatches included.
    pub seconds: f64,
    /// Useful operations a second, in 10^12.
    pub tflops: f64,
    /// Share of the limit that the workload has by nature.
    pub share: f64,
    /// That limit: `f32` of multiply-adds, or `copy`, what a copy reaches of the bandwidth.
    pub of: &'static str,
    /// The same share if one bound alone held `main`: issue, workgroup memory, bandwidth, latency.
    pub bounds: [f64; 4],
    /// Of `main`'s workgroups: their work over slots and time.
    pub schedule: f64,
    /// Of the seconds, those of other entry points, and of dispatches.
    pub others: f64,
    pub dispatches: f64,
}

/// Every workload of a run, on every product of its card.
pub fn predict(run: &Run) -> Vec<Prediction> {
    let machines = MACHINES.iter().filter(|machine| machine.card == run.card);
    machines.flat_map(|machine| of_machine(run, machine)).collect()
}

fn of_machine(run: &Run, machine: &Machine) -> Vec<Prediction> {
    let mut predictions: Vec<Prediction> = vec![];
    for plan in &run.plans {
        let Some(one) = of_plan(run, plan, machine) else { continue };
        // a step of several plans: times add
        match predictions.last_mut().filter(|last| last.workload == one.workload) {
            None => predictions.push(one),
            Some(last) => {
                let ideal = last.share * last.seconds + one.share * one.seconds;
                let flop = last.tflops * last.seconds + one.tflops * one.seconds;
                last.seconds += one.seconds;
                last.others += one.others;
                last.dispatches += one.dispatches;
                last.share = ideal / last.seconds;
                last.tflops = flop / last.seconds;
            }
        }
    }
    predictions
}

fn of_plan(run: &Run, plan: &PlanFacts, machine: &Machine) -> Option<Prediction> {
    let peak = 2.0 * machine.multiply_adds * machine.cores * machine.clock;
    let copy = COPY * machine.bandwidth;
    let ideal = (plan.flop / peak).max(plan.bytes / copy);
    let own = |entry: &&Entry| entry.workload == plan.workload && entry.kernel == plan.kernel;
    let mut prediction = Prediction {
        product: machine.product,
        workload: plan.workload.clone(),
        seconds: 0.0,
        share: 0.0,
        tflops: 0.0,
        of: if plan.flop / peak > plan.bytes / copy { "f32" } else { "copy" },
        bounds: [0.0; 4],
        schedule: 1.0,
        others: 0.0,
        dispatches: plan.dispatches.len() as f64 * machine.dispatch,
    };
    for entry in run.entries.iter().filter(own) {
        let work = rounds::of(entry, plan)?;
        let core = Core::of(entry, machine, &work);
        let main = entry.entry == "main";
        let bytes = if main { plan.bytes } else { plan.read_by(&entry.entry) };
        let time = core.time(&work);
        if main {
            let units: f64 = work.units.iter().flatten().sum();
            let groups = work.units.iter().flatten().count() as f64;
            let sums = core.bounds.map(|[unit, once]| unit * units + once * groups);
            let cores = core.cores as f64;
            let least = [sums[0] / cores, sums[1] / cores, plan.bytes / copy, sums[2] / cores / core.resident as f64];
            prediction.bounds = least.map(|seconds| ideal / seconds);
            prediction.schedule = least[0].max(least[1]).max(least[3]) / time;
        } else {
            prediction.others += time.max(bytes / copy);
        }
        prediction.seconds += time.max(bytes / copy);
    }
    prediction.seconds += prediction.dispatches;
    prediction.share = ideal / prediction.seconds;
    prediction.tflops = plan.flop / prediction.seconds / 1e12;
    Some(prediction)
}

/// What a workgroup takes of a core.
struct Core {
    cores: usize,
    /// Workgroups that fit beside each other.
    resident: usize,
    /// Seconds of a unit, and of what is done once: of the core's issue, of its workgroup memory, and of the workgroup by itself.
    bounds: [[f64; 2]; 3],
}

impl Core {
    fn of(entry: &Entry, machine: &Machine, work: &Work) -> Self {
        let figures = &entry.figures;
        let subgroups = (entry.lanes as f64 / figures.subgroup as f64).ceil();
        // AMD's compiler tells subgroups of a SIMD, NVIDIA's of an SM
        let by_registers = match (figures.waves, machine.others_are_free) {
            (Some(waves), true) => waves as f64 * machine.schedulers,
            (Some(waves), false) => waves as f64,
            (None, _) => machine.subgroups,
        };
        let by_shared =
            if figures.shared > 0 { (machine.shared / figures.shared as f64).floor() } else { f64::INFINITY };
        let resident = (by_registers.min(machine.subgroups) / subgroups).floor().min(by_shared).max(1.0);

        // cycles of an instruction of all lanes
        let width = (figures.subgroup as f64 / machine.lanes).max(1.0);
        let others = if machine.others_are_free { 0.0 } else { 1.0 };
        let issue = |c: &Counted| {
            subgroups / machine.schedulers * (width * (c.fma + c.valu) + machine.matrix * c.matrix + others * c.other)
        };
        let shared = |c: &Counted| c.shared_bytes * entry.lanes as f64 / machine.shared_rate;
        // prepared rows are read by many workgroups, so from a cache; a cache of keys by one, from memory
        let cached = entry.entry == "main" && !["decode", "wide"].iter().any(|family| entry.tuning.starts_with(family));
        let trip = if cached { machine.cache_latency } else { machine.memory_latency };
        // a scheduler that has several subgroups of the workgroup takes them in turn
        let turns = (subgroups / machine.schedulers).max(1.0);
        let alone = |c: &Counted| {
            let own = width * c.fma
                + machine.matrix * c.matrix
                + (width + machine.pace) * c.valu
                + (1.0 + machine.pace) * c.other;
            (own + c.trips * trip * machine.clock).max(turns * issue(c) * machine.schedulers / subgroups)
        };
        let of = |cycles: &dyn Fn(&Counted) -> f64, unit| [unit, &work.once].map(|c| cycles(c) / machine.clock);
        Core {
            cores: machine.cores as usize,
            resident: resident as usize,
            bounds: [of(&issue, &work.unit), of(&shared, &work.unit), of(&alone, &work.longest)],
        }
    }

    /// Seconds of a workgroup of so many units: of the core's throughput, and by itself.
    fn job(&self, units: f64) -> Job {
        let [issue, shared, alone] = self.bounds.map(|[unit, once]| units * unit + once);
        Job { takes: issue.max(shared), alone: alone.max(issue).max(shared) }
    }

    /// Seconds of all dispatches, one after the other.
    fn time(&self, work: &Work) -> f64 {
        let jobs = |units: &Vec<f64>| units.iter().map(|units| self.job(*units)).collect::<Vec<_>>();
        work.units.iter().map(|units| schedule::time(&jobs(units), self.cores, self.resident)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Dispatch, Figures};
    use crate::listing::Counts;

    fn machine(product: &str) -> Machine {
        MACHINES.into_iter().find(|machine| machine.product == product).unwrap()
    }
    fn entry(tuning: &str, subgroup: u32, waves: u32) -> Entry {
        let figures = Figures { subgroup, waves: Some(waves), shared: 30_000, ..Figures::default() };
        Entry {
            workload: "p".into(),
            kernel: "attention".into(),
            entry: "main".into(),
            tuning: tuning.into(),
            lanes: 128,
            dispatches: vec![],
            figures,
        }
    }
    #[track_caller]
    fn near(is: f64, wanted: f64) {
        assert!((is / wanted - 1.0).abs() < 1e-9, "{is}, not {wanted}");
    }

    #[test]
    fn bounds_of_a_workgroup() {
        let unit = Counted {
            fma: 100.0,
            valu: 20.0,
            other: 7.0,
            matrix: 3.0,
            shared_bytes: 1000.0,
            trips: 2.0,
            ..Counted::default()
        };
        let work = Work { unit, longest: Counted { trips: 3.0, ..unit }, once: Counted::default(), units: vec![] };
        // four subgroups on four schedulers; registers let two workgroups in, memory seven
        let h100 = machine("H100 SXM");
        let core = Core::of(&entry("tile-q64k64", 32, 8), &h100, &work);
        assert_eq!((core.cores, core.resident), (132, 2));
        let [[issue, _], [shared, _], [alone, _]] = core.bounds;
        near(issue * h100.clock, 100.0 + 20.0 + 7.0 + 3.0 * 8.0);
        near(shared * h100.clock, 1000.0);
        near(alone * h100.clock, 100.0 + 2.0 * 20.0 + 2.0 * 7.0 + 3.0 * 8.0 + 3.0 * h100.cache_latency * h100.clock);
        // keys of decode come from memory
        let decode = Core::of(&entry("decode-q8", 32, 8), &h100, &work);
        near(decode.bounds[2][0] - alone, 3.0 * (h100.memory_latency - h100.cache_latency));

        // two subgroups of 64 on four schedulers of 16 lanes; scalar work beside it costs nothing; memory lets two workgroups in
        let vega = machine("RX Vega 64");
        let core = Core::of(&entry("tile-q64k64", 64, 4), &vega, &work);
        assert_eq!(core.resident, 2);
        near(core.bounds[0][0] * vega.clock, 0.5 * (4.0 * 120.0 + 3.0 * 32.0));
    }

    #[test]
    fn a_share_is_of_the_limit_by_nature() {
        let main =
            Entry { figures: Figures { whole: Counts::default(), ..entry("", 32, 8).figures }, ..entry("", 32, 8) };
        let mut plan = PlanFacts {
            workload: "p".into(),
            kernel: "rotate_q".into(),
            tuning: "turns".into(),
            bytes: COPY * 3.35e12 * 1e-3,
            dispatches: vec![Dispatch { entry: "main".into(), first: 0, workgroups: [1; 3] }],
            heads: 1,
            kv_heads: 1,
            ..PlanFacts::default()
        };
        let run = |plan: &PlanFacts| Run {
            card: "h100".into(),
            device: String::new(),
            driver: String::new(),
            plans: vec![plan.clone()],
            entries: vec![Entry { kernel: "rotate_q".into(), dispatches: vec![[1; 3]], ..main.clone() }],
        };
        let of = |plan: &PlanFacts| predict(&run(plan)).into_iter().find(|one| one.product == "H100 SXM").unwrap();
        let copied = of(&plan);
        // a millisecond of copying and a dispatch
        near(copied.seconds, 1e-3 + 2e-6);
        near(copied.share, 1e-3 / copied.seconds);
        assert_eq!((copied.of, copied.bounds[2]), ("copy", 1.0));
        plan.flop = 2.0 * 132.0 * 128.0 * 1.755e9 * 2e-3;
        let computed = of(&plan);
        near(computed.share, 2.0 * copied.share);
        assert_eq!((computed.of, computed.bounds[2]), ("f32", 2.0));
    }

    /// Other people's kernels, written in WGSL (`benches/isa/published`) and compiled by NAK of Mesa 26.1.6; their published times within a
    /// factor of 2. github.com/siboehm/SGEMM_CUDA, kernels 6 and 3, on an RTX A6000 at 4 092.
    #[test]
    fn published_kernels() {
        let card = machine("RTX A6000");
        let tflops = |lanes: u32, waves: u32, unit: Counted, units: f64, groups: usize| {
            let work = Work { unit, longest: unit, once: Counted::default(), units: vec![vec![units; groups]] };
            let figures = Figures { subgroup: 32, waves: Some(waves), shared: 8192, ..Figures::default() };
            let core = Core::of(&Entry { lanes, figures, ..entry("", 32, 0) }, &card, &work);
            2.0 * 4096f64.powi(3) / core.time(&work) / 1e12
        };
        // eight rounds of the inner loop, and what is around it
        let wide = Counted {
            fma: 8.0 * 64.0,
            valu: 8.0 * 11.0 + 61.0,
            other: 8.0 * 9.0 + 28.0,
            shared_bytes: 8.0 * 64.0 + 32.0,
            trips: 32.0 / 24.0,
            ..Counted::default()
        };
        let narrow =
            Counted { fma: 32.0, valu: 18.0, other: 56.0, shared_bytes: 264.0, trips: 2.0, ..Counted::default() };
        let predicted = [tflops(256, 20, wide, 512.0, 1024), tflops(1024, 48, narrow, 128.0, 16384)];
        for (predicted, published) in predicted.into_iter().zip([18.24, 2.98]) {
            assert!((0.5..2.0).contains(&(predicted / published)), "{predicted} TFLOP/s, published {published}");
        }
        // what docs/model.md says
        assert_eq!(predicted.map(|one| format!("{one:.1}")), ["22.7", "4.7"]);
    }
}
