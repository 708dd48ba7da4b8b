//! The constants of each card, in one table, with their sources. docs/model.md says what each is for.
//!
//! A *core* is what runs a workgroup: an SM, a WGP of RDNA, a CU of GCN, an Xe core. A constant changes in a commit of its own, with its
//! source. `assumed` is a source too: an honest one.

/// A card, as far as the model knows it.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// As [`crate::card::CARDS`] has it.
    pub card: &'static str,
    /// What is sold under it.
    pub product: &'static str,
    pub cores: f64,
    /// Cycles a second.
    pub clock: f64,
    /// f32 multiply-adds of a core in a cycle, of single issue.
    pub multiply_adds: f64,
    /// Units of a core that each issue for their own subgroups.
    pub schedulers: f64,
    /// Lanes that an instruction of one takes in a cycle.
    pub lanes: f64,
    /// Cycles of a scheduler for an instruction of its matrix unit.
    pub matrix: f64,
    /// Whether only instructions of lanes count there: others issue beside them, from other subgroups.
    pub others_are_free: bool,
    /// Subgroups of a core at once, at most.
    pub subgroups: f64,
    /// Workgroup memory of a core: bytes, and bytes a cycle.
    pub shared: f64,
    pub shared_rate: f64,
    /// Bytes a second of memory.
    pub bandwidth: f64,
    /// Seconds from a load to its use: from memory, and from the cache that all cores share.
    pub memory_latency: f64,
    pub cache_latency: f64,
    /// Cycles that a lone subgroup takes for an instruction, beyond those of its lanes.
    pub pace: f64,
    /// Seconds that a dispatch costs behind another one that it depends on.
    pub dispatch: f64,
    /// Where the figures come from: cores to multiply-adds, and bandwidth; shared; latencies; pace and dispatch.
    #[allow(dead_code, reason = "for those who read it")]
    pub sources: [&'static str; 4],
}

/// Of the bandwidth, what a copy reaches. Assumed.
pub const COPY: f64 = 0.92;

const PACE: &str = "assumed: two independent instructions on average, ALU latency 4 cycles; dispatch assumed";
const HOPPER_LATENCY: &str =
    "about 600 cycles of HBM, 200 of L2 at 1.755 GHz: fp4-site.pages.dev/silicon/gpu-memory-hierarchy";
const ASSUMED_LATENCY: &str = "assumed";

const H100: Machine = Machine {
    card: "h100",
    product: "H100 SXM",
    cores: 132.0,
    clock: 1.755e9,
    multiply_adds: 128.0,
    schedulers: 4.0,
    lanes: 32.0,
    matrix: 8.0,
    others_are_free: false,
    subgroups: 64.0,
    shared: 227.0 * 1024.0,
    shared_rate: 128.0,
    bandwidth: 3.35e12,
    memory_latency: 342e-9,
    cache_latency: 114e-9,
    pace: 1.0,
    dispatch: 2e-6,
    sources: [
        "NVIDIA H100 data sheet; a matrix instruction at half the dense rate, assumed; the clock is the PCIe card's boost, which SXM cards hold under load (chipsandcheese.com, H100, 2023)",
        "CUDA programming guide, compute capability 9.0: 228 KB, 1 KB of it reserved, 32 banks of 4 B",
        HOPPER_LATENCY,
        PACE,
    ],
};

/// All of them.
pub const MACHINES: [Machine; 9] = [
    Machine { card: "h100", product: "H200", bandwidth: 4.8e12, ..H100 },
    H100,
    Machine {
        card: "ada",
        product: "RTX 4090",
        cores: 128.0,
        clock: 2.52e9,
        subgroups: 48.0,
        shared: 99.0 * 1024.0,
        bandwidth: 1.008e12,
        memory_latency: 250e-9,
        cache_latency: 110e-9,
        sources: [
            "NVIDIA Ada whitepaper: 82.6 TFLOP/s, 1 008 GB/s",
            "CUDA programming guide, compute capability 8.9: 100 KB",
            ASSUMED_LATENCY,
            PACE,
        ],
        ..H100
    },
    Machine {
        card: "ampere",
        product: "RTX A6000",
        cores: 84.0,
        clock: 1.8e9,
        subgroups: 48.0,
        shared: 99.0 * 1024.0,
        bandwidth: 0.768e12,
        memory_latency: 250e-9,
        cache_latency: 110e-9,
        sources: [
            "NVIDIA RTX A6000 data sheet: 38.7 TFLOP/s, 768 GB/s",
            "CUDA programming guide, compute capability 8.6: 100 KB",
            ASSUMED_LATENCY,
            PACE,
        ],
        ..H100
    },
    NAVI31,
    Machine {
        card: "navi21",
        product: "RX 6900 XT",
        cores: 40.0,
        clock: 2.25e9,
        bandwidth: 0.512e12,
        sources: ["AMD's page of the card: 23.04 TFLOP/s, 512 GB/s", RDNA_SHARED, ASSUMED_LATENCY, PACE],
        ..NAVI31
    },
    Machine {
        card: "vega10",
        product: "RX Vega 64",
        cores: 64.0,
        clock: 1.546e9,
        multiply_adds: 64.0,
        lanes: 16.0,
        subgroups: 40.0,
        shared: 64.0 * 1024.0,
        shared_rate: 128.0,
        bandwidth: 0.484e12,
        memory_latency: 400e-9,
        cache_latency: 200e-9,
        pace: 0.0,
        sources: [
            "AMD's page of the card: 12.66 TFLOP/s, 484 GB/s",
            "AMD Vega ISA document: 64 KB a CU, 32 banks of 4 B",
            ASSUMED_LATENCY,
            "AMD GCN: an instruction of a wave every 4 cycles, whatever it depends on; dispatch assumed",
        ],
        ..NAVI31
    },
    Machine {
        card: "dg2",
        product: "Arc A770",
        cores: 32.0,
        clock: 2.1e9,
        multiply_adds: 128.0,
        schedulers: 16.0,
        lanes: 8.0,
        matrix: 8.0,
        others_are_free: false,
        subgroups: 128.0,
        shared: 128.0 * 1024.0,
        shared_rate: 128.0,
        bandwidth: 0.56e12,
        memory_latency: 500e-9,
        cache_latency: 200e-9,
        pace: 1.0,
        dispatch: 5e-6,
        sources: [
            "Intel's page of the card: 512 vector engines of 8 lanes, 2.1 GHz, 560 GB/s",
            "Intel Xe-HPG introduction: 192 KB of L1 and SLM a core; SLM's share and rate assumed",
            ASSUMED_LATENCY,
            PACE,
        ],
    },
    Machine {
        card: "bmg",
        product: "Arc B580",
        cores: 20.0,
        clock: 2.67e9,
        multiply_adds: 128.0,
        schedulers: 8.0,
        lanes: 16.0,
        matrix: 8.0,
        others_are_free: false,
        subgroups: 64.0,
        shared: 128.0 * 1024.0,
        shared_rate: 128.0,
        bandwidth: 0.456e12,
        memory_latency: 500e-9,
        cache_latency: 200e-9,
        pace: 1.0,
        dispatch: 5e-6,
        sources: [
            "Intel's page of the card: 160 vector engines of 16 lanes, 2.67 GHz, 456 GB/s",
            "SLM's size and rate assumed to be the A770's",
            ASSUMED_LATENCY,
            PACE,
        ],
    },
];

const RDNA_SHARED: &str = "AMD RDNA ISA documents: 128 KB a WGP, 2 x 32 banks of 4 B";
const NAVI31: Machine = Machine {
    card: "navi31",
    product: "RX 7900 XTX",
    cores: 48.0,
    clock: 2.5e9,
    multiply_adds: 128.0,
    schedulers: 4.0,
    lanes: 32.0,
    matrix: 32.0,
    others_are_free: true,
    subgroups: 64.0,
    shared: 128.0 * 1024.0,
    shared_rate: 256.0,
    bandwidth: 0.96e12,
    memory_latency: 400e-9,
    cache_latency: 150e-9,
    pace: 1.0,
    dispatch: 5e-6,
    sources: [
        "AMD's page of the card: 61.4 TFLOP/s by dual issue, half of it counted here, 960 GB/s; WMMA 16 x 16 x 16 in 32 cycles: 122.8 TFLOP/s",
        RDNA_SHARED,
        ASSUMED_LATENCY,
        PACE,
    ],
};
