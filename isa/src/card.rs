//! The cards, and how a compiler for each is had on a machine without it.

use serde::{Deserialize, Serialize};

/// Whose listings a card's compiler writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maker {
    /// RADV's ACO. GCN counts stores with loads.
    Amd { stores_are_counted: bool },
    /// NVK's NAK.
    Nvidia,
    /// ANV's brw.
    Intel,
}

impl Maker {
    /// As Mesa names its library, `libvulkan_NAME.so`, and its description of it, `NAME_icd*.json`.
    pub fn driver(self) -> &'static str {
        match self {
            Maker::Amd { .. } => "radeon",
            Maker::Nvidia => "nouveau",
            Maker::Intel => "intel",
        }
    }
    /// Mesa's library that answers for the kernel's driver.
    pub fn shim(self) -> &'static str {
        match self {
            Maker::Amd { .. } => "libamdgpu_noop_drm_shim.so",
            Maker::Nvidia => "libnouveau_noop_drm_shim.so",
            Maker::Intel => "libintel_noop_drm_shim.so",
        }
    }
    /// The listing of machine code, by the name that the driver gives it.
    pub fn listing(self) -> &'static str {
        match self {
            Maker::Amd { .. } => "Assembly",
            Maker::Nvidia => "NAK assembly",
            Maker::Intel => "GEN Assembly",
        }
    }
}

/// A card.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    pub name: &'static str,
    pub maker: Maker,
    /// What tells the shim which card to be.
    shim: &'static [(&'static str, &'static str)],
    /// Whether RADV of Mesa 22 to 25 compiles for it without any card (its null device).
    pub null_device: bool,
}

const RDNA: Maker = Maker::Amd { stores_are_counted: false };
const GCN: Maker = Maker::Amd { stores_are_counted: true };

/// In the order in which tables have them.
pub const CARDS: [Card; 10] = [
    nvidia("h100", &[("NOUVEAU_CHIPSET", "180"), BROKEN]),
    nvidia("ada", &[("NOUVEAU_CHIPSET", "190"), BROKEN]),
    nvidia("ampere", &[("NOUVEAU_CHIPSET", "172"), BROKEN]),
    // the null device of Mesa 22 calls it gfx1100, and spills what later versions do not
    Card { name: "navi31", maker: RDNA, shim: &[("AMDGPU_GPU_ID", "navi31")], null_device: false },
    Card { name: "navi21", maker: RDNA, shim: &[("AMDGPU_GPU_ID", "navi21")], null_device: true },
    Card { name: "gfx1150", maker: RDNA, shim: &[("AMDGPU_GPU_ID", "gfx1150")], null_device: false },
    Card { name: "vega10", maker: GCN, shim: &[("AMDGPU_GPU_ID", "vega10")], null_device: true },
    intel("dg2", &[("INTEL_STUB_GPU_PLATFORM", "dg2")]),
    intel("bmg", &[("INTEL_STUB_GPU_PLATFORM", "bmg")]),
    intel("tgl", &[("INTEL_STUB_GPU_PLATFORM", "tgl")]),
];

/// NVK wants to be told that it may.
const BROKEN: (&str, &str) = ("NVK_I_WANT_A_BROKEN_VULKAN_DRIVER", "1");

const fn nvidia(name: &'static str, shim: &'static [(&'static str, &'static str)]) -> Card {
    Card { name, maker: Maker::Nvidia, shim, null_device: false }
}
const fn intel(name: &'static str, shim: &'static [(&'static str, &'static str)]) -> Card {
    Card { name, maker: Maker::Intel, shim, null_device: false }
}

impl Card {
    pub fn named(name: &str) -> Option<Self> {
        CARDS.into_iter().find(|card| card.name == name)
    }
    /// Those of a run that names none.
    pub fn usual(shims: bool) -> Vec<Self> {
        let with_shims = ["h100", "ada", "navi31", "navi21", "vega10", "dg2", "bmg"];
        CARDS
            .into_iter()
            .filter(|card| if shims { with_shims.contains(&card.name) } else { card.null_device })
            .collect()
    }
    /// The environment in which a driver takes the shim, or itself, for this card.
    pub fn environment(&self, shims: bool) -> Vec<(&'static str, &'static str)> {
        if shims { self.shim.to_vec() } else { vec![("RADV_FORCE_FAMILY", self.name)] }
    }
    /// Whether a device's name is this card's: a driver that does not know one may take another in silence.
    pub fn is(&self, device: &str) -> bool {
        match self.maker {
            Maker::Amd { .. } => device.to_lowercase().contains(self.name),
            Maker::Nvidia | Maker::Intel => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_told_by_its_device() {
        let card = Card::named("navi21").unwrap();
        assert!(card.is("Null hardware (RADV NAVI21)") && !card.is("llvmpipe (LLVM 15.0.6, 256 bits)"));
        assert!(Card::named("navi99").is_none());
    }

    #[test]
    fn usual_cards() {
        let names = |shims| Card::usual(shims).iter().map(|card| card.name).collect::<Vec<_>>();
        assert_eq!(names(false), ["navi21", "vega10"]);
        assert_eq!(names(true), ["h100", "ada", "navi31", "navi21", "vega10", "dg2", "bmg"]);
    }
}
