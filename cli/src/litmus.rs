//! Litmus tests of the orders that the kernels rely on, one small shader each: what one invocation wrote, another reads behind a barrier; what
//! a dispatch wrote, the next reads; what lanes of a subgroup hold, the others get.
//!
//! Each has stand-ins for a driver that breaks it: the same shader with the order taken out of its text. A stand-in whose results are
//! right shows that the adapter at hand could not have been caught, not that it is right.

use crate::cases::{Outcome, Verdict};
use crate::workloads::probe::Probe;
use crate::workloads::timing::Work;
use ropewalk::{Error, Gpu, Result, check, wgpu};

/// A litmus test; its address is `litmus/` and its name.
#[derive(Debug)]
pub struct Litmus {
    pub name: &'static str,
    /// The order, in a sentence.
    pub about: &'static str,
    /// Stand-ins: what a driver would do, and the part of the text that becomes another.
    faults: &'static [Fault],
    run: Run,
}

/// Runs the shaders, each text as a function makes it of ours.
type Run = fn(&Gpu, &dyn Fn(&str) -> String) -> Result<Found>;

#[derive(Debug)]
struct Fault {
    name: &'static str,
    from: &'static str,
    to: &'static str,
}

/// Words that were compared, those that were wrong, and the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    pub words: u64,
    pub wrong: u64,
    pub first: usize,
}

/// All of them.
pub static ALL: [Litmus; 3] = [
    Litmus {
        name: "workgroup-memory",
        about: "what an invocation writes into workgroup memory, the others read behind the barrier, and write anew behind the next",
        faults: &[
            Fault { name: "the barrier before reading is ignored", from: "workgroupBarrier(); // written", to: "" },
            Fault { name: "the barrier before writing anew is ignored", from: "workgroupBarrier(); // read", to: "" },
        ],
        run: workgroup_memory,
    },
    Litmus {
        name: "dispatches",
        about: "what a dispatch of a pass writes, the next one reads, whichever workgroups wrote it",
        faults: &[Fault {
            name: "two dispatches run as one",
            from: "// the other half is for the next dispatch",
            to: "words[from_half + id.x] = words[to_half + other] * 1664525u + id.x;",
        }],
        run: dispatches,
    },
    Litmus {
        name: "subgroup",
        about: "lanes of a subgroup, all of the size that the adapter says, get what the others hold",
        faults: &[
            Fault { name: "an exchange gives a lane its own", from: "subgroupShuffleXor(mine, apart)", to: "mine" },
            Fault {
                name: "a shuffle gives the next lane's",
                from: "subgroupShuffle(mine, far)",
                to: "subgroupShuffle(mine, (far + 1u) % SIZE)",
            },
            Fault {
                name: "subgroups are half as large as is said",
                from: "own + number * SIZE",
                to: "own % (SIZE / 2u) + number * SIZE / 2u",
            },
        ],
        run: subgroup,
    },
];

/// Those whose addresses contain every word of a query.
pub fn matching(query: &str) -> Vec<&'static Litmus> {
    ALL.iter().filter(|litmus| query.split_whitespace().all(|word| litmus.address().contains(word))).collect()
}

impl Litmus {
    pub fn address(&self) -> String {
        format!("litmus/{}", self.name)
    }

    /// What the adapter does.
    ///
    /// # Errors
    /// [`Error::Limit`] where the adapter lacks what is tested, and no kernel uses it.
    pub fn run(&self, gpu: &Gpu) -> Result<Found> {
        (self.run)(gpu, &str::to_string)
    }

    /// The names of its stand-ins.
    pub fn faults(&self) -> impl Iterator<Item = &'static str> {
        self.faults.iter().map(|fault| fault.name)
    }

    /// What the adapter does with a stand-in.
    ///
    /// # Errors
    /// As [`Litmus::run`]; [`Error::Input`] where there is no such stand-in, or it changes nothing.
    pub fn run_fault(&self, gpu: &Gpu, name: &str) -> Result<Found> {
        let bad = |problem: &str| Error::input(self.address(), format!("{name}: {problem}"), "report it");
        let fault = self.faults.iter().find(|fault| fault.name == name).ok_or_else(|| bad("no such stand-in"))?;
        let changed = std::cell::Cell::new(false);
        let found = (self.run)(gpu, &|text| {
            changed.set(changed.get() | text.contains(fault.from));
            text.replace(fault.from, fault.to)
        })?;
        if changed.get() { Ok(found) } else { Err(bad("its text is not in the shader")) }
    }

    /// As a case.
    pub fn outcome(&self, gpu: &Gpu, clock: fn() -> f64) -> Outcome {
        let start = clock();
        let found = self.run(gpu);
        let (verdict, reason) = match &found {
            Ok(found) if found.wrong == 0 => (Verdict::Passed, None),
            Ok(_) => (Verdict::Failed, Some(format!("does not hold: {}", self.about))),
            Err(e @ Error::Limit { .. }) => (Verdict::Skipped, Some(e.to_string())),
            Err(e) => (Verdict::Failed, Some(e.to_string())),
        };
        let worst = found.ok().map(|found| check::Worst {
            ratio: if found.wrong > 0 { f64::INFINITY } else { 0.0 },
            index: found.first,
            failures: found.wrong,
            elements: found.words,
            ..Default::default()
        });
        Outcome {
            address: self.address(),
            verdict,
            kernel: format!("litmus.{}", self.name),
            families: Vec::new(),
            tensors: worst.map(|worst| ("words", worst)).into_iter().collect(),
            reason,
            seconds: clock() - start,
            computed: 1,
        }
    }
}

/// Invocations of a workgroup, which every WebGPU device has.
const LANES: usize = 256;
const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// As many workgroups share the device as a call would start.
const GROUPS: usize = 512;

const WORKGROUP_MEMORY: &str = "
@group(0) @binding(0) var<storage, read_write> wrong: array<u32>;
var<workgroup> tile: array<u32, 256>;

fn word(round: u32, group: u32, lane: u32) -> u32 { return (group * 4099u + round) * 256u + lane; }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = workgroup.x;
    var errors = 0u;
    for (var round = 0u; round < 64u; round++) {
        tile[lane] = word(round, group, lane);
        workgroupBarrier(); // written
        let other = (lane * 167u + round * 31u + 64u) % 256u;
        if (tile[other] != word(round, group, other)) { errors++; }
        workgroupBarrier(); // read
    }
    wrong[group * 256u + lane] = errors;
}
";

fn workgroup_memory(gpu: &Gpu, text: &dyn Fn(&str) -> String) -> Result<Found> {
    let size = 4 * (GROUPS * LANES) as u64;
    let probe =
        Probe::new(gpu, "litmus workgroup-memory", &text(WORKGROUP_MEMORY), &[(size, STORAGE)], [GROUPS as u32, 1, 1])?;
    // a word that nobody wrote is wrong
    probe.write(0, &vec![0xff; size as usize]);
    submit(gpu, 1, &[&probe]);
    Ok(compare(&read(gpu, &probe, 0)?, &|_| 0))
}

/// Words of a half.
const HALF: usize = 1 << 16;
/// Pairs of dispatches.
const PAIRS: usize = 8;

const DISPATCH: &str = "
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
const from_half = FROM;
const to_half = TO;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let other = (id.x * 40503u + 12345u) % 65536u;
    words[to_half + id.x] = words[from_half + other] * 1664525u + id.x;
    // the other half is for the next dispatch
}
";

fn dispatches(gpu: &Gpu, text: &dyn Fn(&str) -> String) -> Result<Found> {
    let (first, second) = ("0u", "65536u");
    let made = |from: &str, to: &str| text(DISPATCH).replace("FROM", from).replace("TO", to);
    let groups = [(HALF / 64) as u32, 1, 1];
    let there = Probe::new(gpu, "litmus dispatches", &made(first, second), &[(8 * HALF as u64, STORAGE)], groups)?;
    let buffers = || there.buffers.clone();
    let back = Probe::over(gpu, "litmus dispatches", &made(second, first), &buffers, groups)?;
    let mut words: Vec<u32> = (0..2 * HALF as u32).collect();
    there.write(0, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    submit(gpu, PAIRS, &[&there, &back]);
    let next = |half: &[u32]| -> Vec<u32> {
        let word = |i: usize| half.get((i * 40503 + 12345) % HALF).copied().unwrap_or(0);
        (0..HALF).map(|i| word(i).wrapping_mul(1_664_525).wrapping_add(i as u32)).collect()
    };
    for _ in 0..PAIRS {
        let other = next(words.get(..HALF).unwrap_or_default());
        words = [next(&other), other].concat();
    }
    Ok(compare(&read(gpu, &there, 0)?, &|i| words.get(i).copied().unwrap_or(0)))
}

const SUBGROUP: &str = "
@group(0) @binding(0) var<storage, read_write> wrong: array<u32>;
@group(0) @binding(1) var<storage, read_write> taken: array<atomic<u32>>;
const SIZE = SUBGROUP_SIZE;
var<workgroup> subgroups: atomic<u32>;

fn word(round: u32, at: u32) -> u32 { return (at + 1u) * 2654435761u + round * 40503u; }

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
    @builtin(subgroup_size) size: u32,
) {
    if (index == 0u) { atomicStore(&subgroups, 0u); }
    workgroupBarrier();
    var first = 0u;
    if (invocation == 0u) { first = atomicAdd(&subgroups, 1u); }
    let number = subgroupBroadcast(first, 0u);
    let own = invocation;
    let at = own + number * SIZE;
    let base = at - own;
    var errors = u32(size != SIZE || at >= 256u);
    for (var round = 0u; round < 16u; round++) {
        let mine = word(round, at);
        for (var apart = 1u; apart < SIZE; apart *= 2u) {
            let got = subgroupShuffleXor(mine, apart);
            if (got != word(round, base + (own ^ apart))) { errors++; }
        }
        let far = (own * 5u + round) % SIZE;
        let got = subgroupShuffle(mine, far);
        if (got != word(round, base + far)) { errors++; }
        let most = subgroupMax(f32(own ^ (round % SIZE)));
        if (most != f32(SIZE - 1u)) { errors++; }
        let sum = subgroupAdd(at + round);
        if (sum != SIZE * (base + round) + SIZE * (SIZE - 1u) / 2u) { errors++; }
        let one_does = subgroupAny(own == round % SIZE);
        let nobody_does = !subgroupAny(own == SIZE + round);
        if (!one_does || !nobody_does) { errors++; }
    }
    wrong[workgroup.x * 256u + index] = errors;
    atomicAdd(&taken[workgroup.x * 256u + min(at, 255u)], 1u);
}
";

fn subgroup(gpu: &Gpu, text: &dyn Fn(&str) -> String) -> Result<Found> {
    let size = gpu.limits().subgroup_size;
    if size == 0 {
        let help = "nothing is to be done: no kernel uses them here";
        return Err(Error::limit("subgroup_size", "the device has no subgroups, or of several sizes", help));
    }
    let bytes = 4 * (GROUPS * LANES) as u64;
    let text = text(SUBGROUP).replace("SUBGROUP_SIZE", &format!("{size}u"));
    let sizes = [(bytes, STORAGE), (bytes, STORAGE)];
    let probe = Probe::new(gpu, "litmus subgroup", &text, &sizes, [GROUPS as u32, 1, 1])?;
    probe.write(0, &vec![0xff; bytes as usize]);
    probe.write(1, &vec![0; bytes as usize]);
    submit(gpu, 1, &[&probe]);
    let errors = compare(&read(gpu, &probe, 0)?, &|_| 0);
    // each number of a lane is one lane's
    let lanes = compare(&read(gpu, &probe, 1)?, &|_| 1);
    let first = if errors.wrong > 0 { errors.first } else { lanes.first };
    Ok(Found { words: errors.words + lanes.words, wrong: errors.wrong + lanes.wrong, first })
}

/// Dispatches, in turn, as often as asked for, in one pass.
fn submit(gpu: &Gpu, times: usize, probes: &[&Probe]) {
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        (0..times).flat_map(|_| probes).for_each(|probe| probe.encode(0, &mut pass));
    }
    gpu.queue().submit([encoder.finish()]);
}

/// The words of a buffer.
fn read(gpu: &Gpu, probe: &Probe, buffer: usize) -> Result<Vec<u32>> {
    let Some(buffer) = probe.buffers.get(buffer) else {
        return Err(Error::device("litmus", "a buffer is missing"));
    };
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let (label, size) = (Some("litmus"), buffer.size());
    let staging = gpu.device().create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false });
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
    gpu.queue().submit([encoder.finish()]);
    Ok(gpu.read_back(&staging)?.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

fn compare(words: &[u32], wanted: &dyn Fn(usize) -> u32) -> Found {
    let mut wrong = words.iter().enumerate().filter(|(i, word)| **word != wanted(*i)).map(|(i, _)| i);
    let first = wrong.next();
    let count = first.map_or(0, |_| 1 + wrong.count() as u64);
    // nothing that was read is nothing that holds
    let wrong = if words.is_empty() { 1 } else { count };
    Found { words: words.len() as u64, wrong, first: first.unwrap_or(0) }
}
