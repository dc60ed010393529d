//! What barriers, and what they are against, are called.

use super::{BarrierPlan, Barriers, Exposures};
use core::fmt;

#[allow(missing_docs)] // They are the field's names.
impl Exposures {
    pub const SPECTRE_V1: Exposures = Exposures(1 << 0);
    pub const SPECTRE_V2: Exposures = Exposures(1 << 1);
    pub const MELTDOWN: Exposures = Exposures(1 << 2);
    pub const SSB: Exposures = Exposures(1 << 3);
    pub const L1TF: Exposures = Exposures(1 << 4);
    pub const MDS: Exposures = Exposures(1 << 5);
    pub const TAA: Exposures = Exposures(1 << 6);
    pub const MMIO: Exposures = Exposures(1 << 7);
    pub const RFDS: Exposures = Exposures(1 << 8);
    pub const TSA: Exposures = Exposures(1 << 9);
    pub const RETBLEED: Exposures = Exposures(1 << 10);
    pub const SRSO: Exposures = Exposures(1 << 11);
    pub const BHI: Exposures = Exposures(1 << 12);
    pub const ITS: Exposures = Exposures(1 << 13);
    pub const PBRSB: Exposures = Exposures(1 << 14);
    pub const GDS: Exposures = Exposures(1 << 15);
    pub const VMSCAPE: Exposures = Exposures(1 << 16);
}

/// Each barrier's name, from bit 0 on.
const BARRIER_NAMES: [&str; 7] = ["ibpb", "rsb", "ibrs", "bhb", "call", "verw", "l1d"];

impl fmt::Display for Barriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, self.0, &BARRIER_NAMES)
    }
}

/// Each exposure's name, from bit 0 on, as Linux has it.
const EXPOSURE_NAMES: [&str; 17] = [
    "spectre-v1",
    "spectre-v2",
    "meltdown",
    "ssb",
    "l1tf",
    "mds",
    "taa",
    "mmio",
    "rfds",
    "tsa",
    "retbleed",
    "srso",
    "bhi",
    "its",
    "pbrsb",
    "gds",
    "vmscape",
];

impl fmt::Display for Exposures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, self.0, &EXPOSURE_NAMES)
    }
}

/// The names of the bits with commas between them; `none` for none.
fn names(f: &mut fmt::Formatter<'_>, bits: u32, all: &[&str]) -> fmt::Result {
    let mut separator = "";
    for (_, name) in (0_u32..).zip(all).filter(|(bit, _)| bits >> bit & 1 != 0) {
        write!(f, "{separator}{name}")?;
        separator = ",";
    }
    if separator.is_empty() { f.write_str("none") } else { Ok(()) }
}

/// The modes' names, by their numbers.
const MODE_NAMES: [&str; 3] = ["auto", "off", "strict"];

impl BarrierPlan {
    /// The name of its mode.
    #[must_use]
    pub fn mode_name(&self) -> &'static str {
        MODE_NAMES.get(self.mode as usize).copied().unwrap_or("?")
    }
}

/// What is switched on for good, by name.
#[derive(Clone, Copy, Debug)]
pub struct Setup(pub u32);

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, self.0, &["eibrs", "bhi-dis-s", "autoibrs", "bp-spec-reduce"])
    }
}
