//! The entry points of default plans, each through a card's compiler: what they take and what their loops hold.

use crate::Result;
use crate::card::Card;
use crate::device::{Compiled, Device};
use crate::listing::{Contents, Counts};
use crate::spirv::Module;
use ropewalk::{Plan, Target, workload};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Instant;

/// All of a card.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub card: String,
    pub device: String,
    /// As the driver names itself: `radv Mesa 22.3.6`.
    pub driver: String,
    pub plans: Vec<PlanFacts>,
    pub entries: Vec<Entry>,
}

/// What the model needs of a plan.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PlanFacts {
    pub workload: String,
    pub kernel: String,
    pub tuning: String,
    pub flop: f64,
    pub bytes: f64,
    /// Rows and keys.
    pub tile: [u32; 2],
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub v_head_dim: u32,
    pub q_len: u32,
    pub kv_len: u32,
    pub causal: bool,
    /// Bytes of a stored element.
    pub element: u32,
    /// The text's constants that are whole numbers.
    pub constants: BTreeMap<String, u32>,
    /// In order.
    pub dispatches: Vec<Dispatch>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dispatch {
    pub entry: String,
    /// The first tile of rows.
    pub first: u32,
    pub workgroups: [u32; 3],
}

impl PlanFacts {
    fn of(workload: &str, plan: &Plan, module: &Module) -> Self {
        let (spec, shape) = (plan.spec(), plan.shape());
        let dispatch = |one: &ropewalk::ChunkDispatch| Dispatch {
            entry: one.entry.into(),
            first: one.first[0],
            workgroups: one.workgroups,
        };
        PlanFacts {
            workload: workload.into(),
            kernel: plan.label().split('.').next().unwrap_or("").into(),
            tuning: plan.tuning().to_string(),
            flop: plan.flop(),
            bytes: plan.bytes() as f64,
            tile: plan.tile(),
            heads: spec.num_heads,
            kv_heads: spec.num_kv_heads,
            head_dim: spec.head_dim,
            v_head_dim: spec.v_head_dim,
            q_len: shape.q_len,
            kv_len: shape.kv_len,
            causal: spec.mask == ropewalk::Mask::causal(),
            element: if spec.dtype == ropewalk::Dtype::F32 { 4 } else { 2 },
            constants: module.constants(),
            dispatches: plan.chunks().iter().map(dispatch).collect(),
        }
    }
    /// Tiles of keys that some row of a tile of rows sees.
    pub fn key_tiles(&self, tile: u32) -> f64 {
        let rows = self.q_len * (self.heads / self.kv_heads);
        let last = (((tile + 1) * self.tile[0]).min(rows) - 1) / (self.heads / self.kv_heads);
        let keys = if self.causal { self.kv_len - self.q_len + last + 1 } else { self.kv_len };
        keys.div_ceil(self.tile[1]) as f64
    }
    /// Whether keys are rotated before.
    pub fn prepares_keys(&self) -> bool {
        self.dispatches.iter().any(|one| one.entry == "prepare_k")
    }
    /// Bytes of q, k or o that an entry point beside `main` reads.
    pub fn read_by(&self, entry: &str) -> f64 {
        let keys = entry == "prepare_k" || self.kernel.starts_with("rotate_k");
        let (rows, heads) = if keys { (self.kv_len, self.kv_heads) } else { (self.q_len, self.heads) };
        rows as f64 * (heads * self.head_dim * self.element) as f64
    }
}

impl Run {
    /// The compiler with the version that says what it makes of a text, for names of files: `radv-22.3.6`.
    pub fn compiler(&self) -> String {
        let name = self.driver.split_whitespace().next().unwrap_or("unknown").to_lowercase();
        let version = self.driver.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let version = version.unwrap_or("0").split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or("0");
        format!("{name}-{version}")
    }
}

/// An entry point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    pub workload: String,
    /// What the plan computes, as its label begins.
    pub kernel: String,
    pub entry: String,
    /// The family and its numbers.
    pub tuning: String,
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Workgroups of each dispatch in a step.
    pub dispatches: Vec<[u32; 3]>,
    pub figures: Figures,
}

impl Entry {
    /// The name in tables and records.
    pub fn id(&self) -> String {
        match self.kernel.as_str() {
            "attention" => format!("{}.{}", self.workload, self.entry),
            kernel => format!("{}.{kernel}.{}", self.workload, self.entry),
        }
    }
}

/// What the compiler made of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Vector registers of a lane. Intel: the most that are alive at once, of 128.
    pub registers: u32,
    /// Registers that went to memory.
    pub spills: u32,
    /// Private memory of a lane, bytes.
    pub scratch: u32,
    /// Workgroup memory, bytes.
    pub shared: u32,
    pub subgroup: u32,
    /// Subgroups at once, as the compiler has it: AMD's of a SIMD; NVIDIA's of an SM, by registers alone.
    pub waves: Option<u32>,
    /// Bytes.
    pub code: u32,
    pub compile_ms: u32,
    /// Loads of a lane on their way at once, and their bytes: `Contents::in_flight`.
    pub loads_in_flight: u32,
    pub bytes_in_flight: u32,
    /// All of the text.
    pub whole: Counts,
    /// Its loops, in the order of the listing.
    pub loops: Vec<Counts>,
    /// The same without what a round may pass by.
    #[serde(default)]
    pub always: Vec<Counts>,
}

impl Figures {
    /// The loops that matter most: those with the most multiply-adds, then those that load.
    pub fn hot(&self, most: usize) -> Vec<&Counts> {
        let work = |counts: &&Counts| counts.multiply_adds + 64.0 * counts.matrix as f64 + counts.loads as f64;
        let mut hot: Vec<_> = self.loops.iter().filter(|counts| work(counts) >= 1.0).collect();
        hot.sort_by(|a, b| work(b).total_cmp(&work(a)));
        hot.truncate(most);
        hot
    }

    fn of(card: &Card, compiled: &Compiled, shared: u32, compile_ms: u32) -> Result<Self> {
        let sum = |names: &[&str]| {
            let known: Vec<f64> = names.iter().filter_map(|name| compiled.statistics.get(*name).copied()).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() as u32)
        };
        let first = |names: &[&str]| names.iter().find_map(|name| sum(&[name]));
        let wanted = |what: &str, value: Option<u32>| {
            let known: Vec<_> = compiled.statistics.keys().map(String::as_str).collect();
            value.ok_or_else(|| format!("the driver does not tell {what}; it tells {}", known.join(", ")))
        };
        let subgroup = wanted("the subgroup's size", sum(&["Subgroup Size"]).filter(|n| *n > 0))?;
        let scratch = match sum(&["Scratch size"]) {
            Some(of_the_wave) => of_the_wave / subgroup,
            None => first(&["SLM size", "Scratch Memory Size"]).unwrap_or(0),
        };
        let listing = compiled.listings.iter().find(|(name, _)| name == card.maker.listing());
        let (_, listing) = listing.ok_or_else(|| format!("the driver has no listing {:?}", card.maker.listing()))?;
        let contents = Contents::read(card.maker, listing, scratch > 0, subgroup);
        let (loads_in_flight, bytes_in_flight) = contents.in_flight();
        let registers = first(&["VGPRs", "Number of GPRs", "Max live registers"]);
        let spills = match sum(&["Spilled VGPRs", "Spilled SGPRs"]) {
            None => first(&["Spills to memory", "Spills"]),
            amd => amd,
        };
        Ok(Figures {
            registers: wanted("registers", registers)?,
            spills: wanted("spills", spills)?,
            scratch,
            shared: first(&["LDS size", "Workgroup Memory Size"]).unwrap_or(shared),
            subgroup,
            waves: first(&["Subgroups per SIMD", "Max warps/SM"]),
            code: first(&["Code size", "Code Size"]).unwrap_or(0),
            compile_ms,
            loads_in_flight,
            bytes_in_flight,
            loops: contents.loops,
            always: contents.always,
            whole: contents.whole,
        })
    }
}

/// A text to compile.
struct Text {
    workload: String,
    kernel: String,
    tuning: String,
    wgsl: String,
    checks: bool,
    /// Workgroups of each dispatch, by entry point.
    dispatches: BTreeMap<String, Vec<[u32; 3]>>,
}

impl Text {
    fn of_plan(workload: &str, plan: &Plan) -> Self {
        let mut dispatches: BTreeMap<String, Vec<[u32; 3]>> = BTreeMap::new();
        for chunk in plan.chunks() {
            dispatches.entry(chunk.entry.into()).or_default().push(chunk.workgroups);
        }
        // where the library keeps them in a text whose plan drops them
        let fits = plan.bindings().iter().all(|binding| binding.size <= u32::MAX as u64);
        Text {
            workload: workload.into(),
            kernel: plan.label().split('.').next().unwrap_or("").into(),
            tuning: plan.tuning().to_string(),
            wgsl: plan.wgsl(Target::Native).into(),
            checks: plan.tuning().checks || !fits,
            dispatches,
        }
    }
    /// A composed text that someone has edited: every entry point, without run-time checks.
    fn of_file(path: &Path) -> Result<Self> {
        let wgsl = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let entries = Module::parse(&wgsl)?.entries();
        Ok(Text {
            workload: path.file_stem().unwrap_or_default().to_string_lossy().into(),
            kernel: "attention".into(),
            tuning: "file".into(),
            wgsl,
            checks: false,
            dispatches: entries.into_iter().map(|entry| (entry, vec![])).collect(),
        })
    }
}

/// How.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Plans may take cooperative matrices.
    pub matrix: bool,
    /// Without robust access to buffers.
    pub plain: bool,
}

/// Compiles workloads (or files of WGSL) for the card whose driver the environment names. `keep`: where listings and SPIR-V go.
pub fn run(card: &Card, workloads: &[String], options: Options, keep: Option<&Path>) -> Result<Option<Run>> {
    let Some(mut device) = Device::open(|name| card.is(name), options.plain)? else { return Ok(None) };
    device.facts.matrices &= options.matrix;
    if device.facts.matrices {
        device.limits.cooperative_matrix = 16;
        // where there are several, RADV takes 64 for all kernels
        device.limits.matrix_subgroup = if device.limits.subgroup_size > 0 { device.limits.subgroup_size } else { 64 };
    }
    let (mut texts, mut plans) = (vec![], vec![]);
    for name in workloads {
        if name.ends_with(".wgsl") {
            texts.push(Text::of_file(Path::new(name))?);
        } else {
            for plan in workload::named(name)?.plans(&device.limits)? {
                texts.push(Text::of_plan(name, &plan));
                plans.push(PlanFacts::of(name, &plan, &Module::parse(plan.wgsl(Target::Native))?));
            }
        }
    }
    let mut known: HashMap<Vec<u32>, Figures> = HashMap::new();
    let mut entries = vec![];
    for text in texts {
        let module = Module::parse(&text.wgsl)?;
        for (entry, dispatches) in text.dispatches {
            let spirv = module.write(&entry, text.checks, &device.facts)?;
            let mut one = Entry {
                workload: text.workload.clone(),
                kernel: text.kernel.clone(),
                lanes: module.lanes(&entry),
                figures: Figures::default(),
                tuning: text.tuning.clone(),
                entry,
                dispatches,
            };
            // the last line of a compiler that dies
            eprintln!("compiling {} for {}", one.id(), card.name);
            one.figures = match known.get(&spirv) {
                Some(figures) if keep.is_none() => figures.clone(),
                _ => {
                    let clock = Instant::now();
                    let compiled = device.compile(&module, &spirv, &one.entry)?;
                    let ms = clock.elapsed().as_millis() as u32;
                    if let Some(folder) = keep {
                        write(folder, card, &one, &text.wgsl, &spirv, &compiled)?;
                    }
                    let figures = Figures::of(card, &compiled, module.shared(&one.entry), ms)?;
                    known.insert(spirv, figures.clone());
                    figures
                }
            };
            entries.push(one);
        }
    }
    Ok(Some(Run { card: card.name.into(), device: device.name.clone(), driver: device.driver.clone(), plans, entries }))
}

fn write(folder: &Path, card: &Card, one: &Entry, wgsl: &str, spirv: &[u32], compiled: &Compiled) -> Result<()> {
    let folder = folder.join(card.name);
    std::fs::create_dir_all(&folder)?;
    let name = one.id();
    std::fs::write(folder.join(format!("{name}.wgsl")), wgsl)?;
    std::fs::write(folder.join(format!("{name}.spv")), spirv.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>())?;
    for (listing, text) in &compiled.listings {
        let listing = listing.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        std::fs::write(folder.join(format!("{name}.{listing}.txt")), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(statistics: &[(&str, f64)], listing: (&str, &str)) -> Compiled {
        Compiled {
            statistics: statistics.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
            listings: vec![(listing.0.into(), listing.1.into())],
        }
    }

    #[test]
    fn statistics_of_the_three_makers() {
        let amd = [("VGPRs", 136.0), ("Spilled VGPRs", 3.0), ("Spilled SGPRs", 2.0), ("Scratch size", 32768.0)];
        let amd = [amd.as_slice(), &[("LDS size", 512.0), ("Subgroups per SIMD", 6.0), ("Code size", 4644.0)]].concat();
        let amd = [amd.as_slice(), &[("Subgroup Size", 64.0)]].concat();
        let listing = ("Assembly", "BB0:\n\tscratch_load_dwordx4 v[0:3], off, off\n");
        let figures = Figures::of(&Card::named("vega10").unwrap(), &compiled(&amd, listing), 7, 5).unwrap();
        let Figures { registers, spills, scratch, shared, subgroup, waves, code, compile_ms, .. } = figures;
        assert_eq!((registers, spills, scratch, shared, subgroup), (136, 5, 512, 512, 64));
        assert_eq!((waves, code, compile_ms, figures.whole.scratch), (Some(6), 4644, 5, 1));

        let nvidia =
            [("Number of GPRs", 255.0), ("Spills to memory", 4.0), ("Spills to reg", 20.0), ("SLM size", 272.0)];
        let nvidia = [nvidia.as_slice(), &[("Max warps/SM", 8.0), ("Subgroup Size", 32.0)]].concat();
        let listing = ("NAK assembly", "block 0 L2 [] -> {\n");
        let figures = Figures::of(&Card::named("h100").unwrap(), &compiled(&nvidia, listing), 7, 5).unwrap();
        let Figures { registers, spills, scratch, shared, waves, .. } = figures;
        assert_eq!((registers, spills, scratch, shared, waves), (255, 4, 272, 7, Some(8)));

        let intel = [("Max live registers", 214.0), ("Spills", 626.0), ("Workgroup Memory Size", 34820.0)];
        let intel = [intel.as_slice(), &[("Scratch Memory Size", 0.0), ("Subgroup Size", 8.0)]].concat();
        let figures = Figures::of(&Card::named("dg2").unwrap(), &compiled(&intel, ("GEN Assembly", "")), 7, 5).unwrap();
        let Figures { registers, spills, scratch, shared, waves, .. } = figures;
        assert_eq!((registers, spills, scratch, shared, waves), (214, 626, 0, 34820, None));

        let unknown = Figures::of(&Card::named("dg2").unwrap(), &compiled(&intel[1..], ("GEN Assembly", "")), 7, 5);
        assert!(unknown.unwrap_err().to_string().contains("registers; it tells Scratch Memory Size"));
    }

    #[test]
    fn compilers_by_name_and_version() {
        let of = |driver: &str| {
            Run { card: "x".into(), device: "x".into(), driver: driver.into(), plans: vec![], entries: vec![] }
                .compiler()
        };
        assert_eq!(of("radv Mesa 22.3.6"), "radv-22.3.6");
        assert_eq!(of("radv Mesa 26.1.6-1~bpo13+1"), "radv-26.1.6");
        assert_eq!(of("Intel open-source Mesa driver Mesa 26.1.6-1~bpo13+1"), "intel-26.1.6");
        assert_eq!(of("NVK Mesa 25.0.7-2~bpo12+1"), "nvk-25.0.7");
    }
}
