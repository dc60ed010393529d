//! The table of barriers: from what CPUID and MSRs say of a processor to what is done on it. Reading is one step, judging (pure, tested on
//! the host with a row for each family) another.
//!
//! Sources: which model is exposed to what, from Intel's "Affected Processors: Transient Execution Attacks & Related Security Issues by CPU"
//! and AMD's bulletins 1036 and 1037 (branch type confusion), 7005 (Inception), 7029 (TSA) and 7046 (VMSCAPE), as Linux' table of them has it
//! (`arch/x86/kernel/cpu/common.c`, and `Documentation/admin-guide/hw-vuln`); the bits of IA32_ARCH_CAPABILITIES from SDM vol. 4, table 2-2; those of
//! CPUID from SDM vol. 2A and APM vol. 3, appendix E.

use abi::barriers::names::Setup;
use abi::barriers::{BarrierPlan, Barriers, Exposures, mode, setup};
use core::fmt;

/// IA32_ARCH_CAPABILITIES.
const ARCH_CAPABILITIES: u32 = 0x10a;

/// `barriers=`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What the processor is exposed to.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// All that it has, at every crossing.
    Strict,
}

/// Who made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Make {
    /// Intel, or one of whom nothing is known: then no model is known to be safe.
    #[default]
    Intel,
    /// AMD; and Hygon, whose family 18h is the first Zen.
    Amd,
}

/// What a processor says of itself, as it was read. 0 where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub make: Make,
    /// Family, extended.
    pub family: u32,
    /// Model, extended.
    pub model: u32,
    pub stepping: u32,
    /// CPUID.1:ECX.
    pub features: u32,
    /// CPUID.7.0:EBX.
    pub extended: u32,
    /// CPUID.7.0:EDX.
    pub controls: u32,
    /// CPUID.7.2:EDX.
    pub more_controls: u32,
    /// CPUID.80000008h:EBX.
    pub amd_extensions: u32,
    /// CPUID.80000021h:EAX and ECX.
    pub amd_more: [u32; 2],
    /// IA32_ARCH_CAPABILITIES.
    pub capabilities: u64,
}

impl Identity {
    /// Asks this processor.
    ///
    /// # Safety
    /// Ring 0.
    pub unsafe fn read() -> Identity {
        let cpuid = |leaf, subleaf| {
            let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
            [result.eax, result.ebx, result.ecx, result.edx]
        };
        // SAFETY: `gather` reads no MSR that the processor does not announce; the caller is in ring 0.
        Self::gather(cpuid, |number| unsafe { x86::msr::rdmsr(number) })
    }

    /// Asks for what exists, and for nothing else.
    pub fn gather(cpuid: impl Fn(u32, u32) -> [u32; 4], rdmsr: impl Fn(u32) -> u64) -> Identity {
        let [top, b, c, d] = cpuid(0, 0);
        let amd = [*b"AuthenticAMD", *b"HygonGenuine"];
        let mut vendor = [0; 12];
        for (to, word) in vendor.chunks_mut(4).zip([b, d, c]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let make = if amd.contains(&vendor) { Make::Amd } else { Make::Intel };
        let [signature, _, features, _] = cpuid(1, 0);
        let field = |shift: u32, mask: u32| signature >> shift & mask;
        let base = field(8, 0xf);
        let family = if base == 0xf { base + field(20, 0xff) } else { base };
        let more = base == 0xf || (make == Make::Intel && base == 6);
        let model = field(4, 0xf) | if more { field(16, 0xf) << 4 } else { 0 };
        let mut found = Identity { make, family, model, stepping: field(0, 0xf), features, ..Identity::default() };
        if top >= 7 {
            let [last, extended, _, controls] = cpuid(7, 0);
            (found.extended, found.controls) = (extended, controls);
            if last >= 2 {
                found.more_controls = cpuid(7, 2)[3];
            }
        }
        let top_amd = cpuid(0x8000_0000, 0)[0];
        if top_amd >= 0x8000_0008 {
            found.amd_extensions = cpuid(0x8000_0008, 0)[1];
        }
        if top_amd >= 0x8000_0021 {
            let [low, _, high, _] = cpuid(0x8000_0021, 0);
            found.amd_more = [low, high];
        }
        if found.controls >> 29 & 1 != 0 {
            found.capabilities = rdmsr(ARCH_CAPABILITIES);
        }
        found
    }

    fn control(&self, bit: u32) -> bool {
        self.controls >> bit & 1 != 0
    }

    fn capability(&self, bit: u32) -> bool {
        self.capabilities >> bit & 1 != 0
    }

    fn extension(&self, bit: u32) -> bool {
        self.amd_extensions >> bit & 1 != 0
    }

    fn more(&self, bit: u32) -> bool {
        self.amd_more[0] >> bit & 1 != 0
    }

    /// There are IA32_SPEC_CTRL.IBRS and IA32_PRED_CMD, of Intel's.
    fn has_ibrs(&self) -> bool {
        self.control(26)
    }

    /// There is IA32_PRED_CMD.
    fn has_ibpb(&self) -> bool {
        self.control(26) || self.extension(12)
    }

    /// The predictor tells guests from the core.
    fn tells_modes(&self) -> bool {
        match self.make {
            Make::Intel => self.has_ibrs() && self.capability(1),
            Make::Amd => self.more(8),
        }
    }
}

/// What a model of Intel's family 6 is exposed to although no bit says so, or not although none does.
mod trait_of {
    pub(super) const NOTHING: u32 = 1 << 0;
    pub(super) const NO_SSB: u32 = 1 << 1;
    pub(super) const NO_L1TF: u32 = 1 << 2;
    pub(super) const NO_MDS: u32 = 1 << 3;
    pub(super) const NO_PBRSB: u32 = 1 << 4;
    pub(super) const MMIO: u32 = 1 << 5;
    pub(super) const RETBLEED: u32 = 1 << 6;
    pub(super) const GDS: u32 = 1 << 7;
    pub(super) const RFDS: u32 = 1 << 8;
    /// Of the kind that reaches from a guest to its host.
    pub(super) const ITS: u32 = 1 << 9;
    pub(super) const VMSCAPE: u32 = 1 << 10;
}

/// Models of Intel's family 6, each from a stepping on; the last row that fits counts. What is not here, is exposed to what its bits do not deny.
const INTEL: &[(&[u32], u32, u32)] = {
    use trait_of::*;
    &[
        // Bonnell, Saltwell: in order.
        (&[0x1c, 0x26, 0x27, 0x35, 0x36], 0, NOTHING),
        // Silvermont, Airmont, Knights Landing and Mill.
        (&[0x37, 0x4a, 0x4d, 0x4c, 0x57, 0x85], 0, NO_SSB | NO_L1TF),
        // Airmont in phones and in network processors.
        (&[0x5a, 0x75], 0, NO_L1TF),
        // Goldmont.
        (&[0x5c, 0x5f], 0, NO_MDS | NO_L1TF | RFDS),
        (&[0x7a], 0, NO_MDS | NO_L1TF | RFDS | NO_PBRSB),
        // Tremont.
        (&[0x86, 0x96, 0x9c], 0, MMIO | RFDS | NO_PBRSB),
        // Sandy Bridge, Ivy Bridge, Haswell and Broadwell of clients.
        (&[0x2a, 0x2d, 0x3a, 0x3e, 0x3c, 0x45, 0x46, 0x3d, 0x47], 0, VMSCAPE),
        // Haswell and Broadwell of servers.
        (&[0x3f, 0x4f, 0x56], 0, MMIO | VMSCAPE),
        // Skylake.
        (&[0x4e, 0x5e, 0x55, 0x8e, 0x9e], 0, MMIO | RETBLEED | GDS | VMSCAPE),
        // Cascade Lake and Cooper Lake; Whiskey Lake, Amber Lake, Coffee Lake's last.
        (&[0x55], 6, MMIO | RETBLEED | GDS | ITS | VMSCAPE),
        (&[0x8e], 0xc, MMIO | RETBLEED | GDS | ITS | VMSCAPE),
        (&[0x9e], 0xd, MMIO | RETBLEED | GDS | ITS | VMSCAPE),
        // Comet Lake, Cannon Lake.
        (&[0xa5, 0xa6], 0, MMIO | RETBLEED | GDS | ITS | VMSCAPE),
        (&[0x66], 0, RETBLEED | VMSCAPE),
        // Ice Lake, Rocket Lake, Lakefield, Tiger Lake.
        (&[0x7d, 0x7e, 0x9d, 0xa7], 0, MMIO | RETBLEED | GDS),
        (&[0x6a, 0x6c], 0, MMIO | GDS),
        (&[0x8a], 0, MMIO | RETBLEED),
        (&[0x8c, 0x8d], 0, GDS),
        // Alder Lake and Raptor Lake, whose small cores have what Gracemont has.
        (&[0x97, 0x9a, 0xb7, 0xba, 0xbf, 0xbe], 0, RFDS | VMSCAPE),
        // Meteor Lake, Arrow Lake, Lunar Lake; Sapphire, Emerald and Granite Rapids; Sierra Forest.
        (&[0xaa, 0xac, 0xc5, 0xc6, 0xb5, 0xbd, 0x8f, 0xcf, 0xad, 0xae, 0xaf], 0, VMSCAPE),
    ]
};

fn traits(of: &Identity) -> u32 {
    if of.family != 6 {
        return 0;
    }
    let fits = |row: &&(&[u32], u32, u32)| row.0.contains(&of.model) && of.stepping >= row.1;
    INTEL.iter().rfind(fits).map_or(0, |row| row.2)
}

/// What a processor is exposed to.
pub fn exposures(of: &Identity) -> Exposures {
    match of.make {
        Make::Intel => intel_exposures(of),
        Make::Amd => amd_exposures(of),
    }
}

fn intel_exposures(of: &Identity) -> Exposures {
    let traits = traits(of);
    let has = |bit: u32| traits & bit != 0;
    if has(trait_of::NOTHING) {
        return Exposures::NONE;
    }
    let is = |bit: u32| of.capability(bit);
    let meltdown = !is(0);
    let transactions = of.extended >> 11 & 1 != 0 || is(7);
    let enhanced = of.tells_modes();
    let avx = of.features >> 28 & 1 != 0;
    Exposures::SPECTRE_V1
        .with(Exposures::SPECTRE_V2)
        .with(Exposures::SSB.when(!has(trait_of::NO_SSB) && !is(4)))
        .with(Exposures::MELTDOWN.when(meltdown))
        .with(Exposures::L1TF.when(meltdown && !has(trait_of::NO_L1TF)))
        .with(Exposures::MDS.when(!has(trait_of::NO_MDS) && !is(5)))
        .with(Exposures::TAA.when(transactions && !is(8)))
        .with(Exposures::MMIO.when(has(trait_of::MMIO) && !(is(13) && is(14) && is(15))))
        .with(Exposures::RFDS.when(!is(27) && (has(trait_of::RFDS) || is(28))))
        .with(Exposures::RETBLEED.when(has(trait_of::RETBLEED) || is(2)))
        .with(Exposures::BHI.when(enhanced && !is(20)))
        .with(Exposures::ITS.when(has(trait_of::ITS) && !is(62)))
        .with(Exposures::PBRSB.when(enhanced && !is(24) && !has(trait_of::NO_PBRSB)))
        .with(Exposures::GDS.when(has(trait_of::GDS) && avx && !is(26)))
        // A predictor that knows no modes does not tell a guest from a component either.
        .with(Exposures::VMSCAPE.when(has(trait_of::VMSCAPE) || !enhanced))
}

fn amd_exposures(of: &Identity) -> Exposures {
    let confuses = (0x15..=0x18).contains(&of.family) && !of.extension(29);
    let inception = (0x17..=0x1a).contains(&of.family) && !of.more(29);
    // TSA_SQ_NO and TSA_L1_NO.
    let tsa = of.family == 0x19 && of.amd_more[1] & 0b110 != 0b110;
    Exposures::SPECTRE_V1
        .with(Exposures::SPECTRE_V2)
        .with(Exposures::SSB.when(of.family > 0x12 && !of.extension(26)))
        .with(Exposures::RETBLEED.when(confuses))
        .with(Exposures::SRSO.when(inception))
        .with(Exposures::TSA.when(tsa))
        .with(Exposures::VMSCAPE)
}

/// What is done on a processor, and what stays open.
pub fn plan(of: &Identity, mode: Mode) -> BarrierPlan {
    let exposed = exposures(of);
    if mode == Mode::Off {
        return BarrierPlan { mode: mode::OFF, exposed, open: exposed, ..BarrierPlan::default() };
    }
    let open = exposed.without(closed(of, exposed));
    let (setup, exit) = at_exit(of, exposed);
    let has_l1d = of.control(28);
    if mode == Mode::Strict {
        let flush = Barriers::IBPB.when(of.has_ibpb()).with(Barriers::RSB);
        let verw = !verw_for(of, Exposures::ALL).is_none();
        let entry = Barriers::VERW.when(verw).with(Barriers::L1D.when(has_l1d));
        let exit = exit.with(flush).with(Barriers::BHB.when(of.make == Make::Intel));
        return BarrierPlan {
            mode: mode::STRICT,
            setup,
            exposed,
            open,
            exit,
            tenant: flush.with(entry),
            entry,
            component: flush,
        };
    }
    // Where every exit has one, nobody's predictions are left.
    let flush = of.has_ibpb() && !exit.contains(Barriers::IBPB);
    let verw = !verw_for(of, exposed).is_none();
    // Who runs above us may do it at each entry (SKIP_L1DFL_VMENTRY).
    let l1d = exposed.contains(Exposures::L1TF) && has_l1d && !of.capability(3);
    BarrierPlan {
        mode: mode::AUTO,
        setup,
        exposed,
        open,
        exit,
        tenant: Barriers::IBPB.with(Barriers::RSB).when(flush && exposed.contains(Exposures::SPECTRE_V2)),
        entry: Barriers::VERW.when(verw).with(Barriers::L1D.when(l1d)),
        component: whole_ibpb(of).when(flush && exposed.contains(Exposures::VMSCAPE)),
    }
}

/// A barrier for all predictions. AMD's may leave returns to be predicted as before (CPUID.80000008h:EBX bit 30), and Intel does not promise that its
/// own empties the return stack.
fn whole_ibpb(of: &Identity) -> Barriers {
    Barriers::IBPB.with(Barriers::RSB.when(of.make == Make::Intel || !of.extension(30)))
}

/// Against what a guest has left for the core: what is switched on for good, and what every exit takes.
fn at_exit(of: &Identity, exposed: Exposures) -> (u32, Barriers) {
    let is = |what: Exposures| exposed.contains(what);
    if exposed.is_none() {
        return (0, Barriers::NONE);
    }
    let enhanced = of.tells_modes();
    let (setup, barriers, flush) = match of.make {
        Make::Intel if enhanced => {
            let disables = is(Exposures::BHI) && of.more_controls >> 4 & 1 != 0;
            let setup = setup::ENHANCED_IBRS | if disables { setup::BHI_DIS_S } else { 0 };
            let history = Barriers::BHB.when(is(Exposures::BHI) && !disables);
            (setup, history.with(Barriers::CALL.when(is(Exposures::PBRSB))), is(Exposures::ITS))
        }
        // Without the microcode that has it nothing protects an indirect branch, so returns need not be either.
        Make::Intel => (0, Barriers::IBRS.with(Barriers::RSB).when(of.has_ibrs()), is(Exposures::ITS)),
        Make::Amd => {
            let reduces = is(Exposures::SRSO) && of.family == 0x1a && of.more(31);
            let setup = if enhanced { setup::AUTOMATIC_IBRS } else { 0 };
            let setup = setup | if reduces { setup::BP_SPEC_REDUCE } else { 0 };
            // What compilers make of indirect branches and returns against these, the core does not have.
            let flush = !enhanced || is(Exposures::RETBLEED) || (is(Exposures::SRSO) && !reduces);
            (setup, Barriers::NONE, flush)
        }
    };
    (setup, barriers.with(whole_ibpb(of).when(flush && of.has_ibpb())))
}

/// For which of these VERW empties buffers.
fn verw_for(of: &Identity, exposed: Exposures) -> Exposures {
    let md_clear = of.control(10);
    let fb_clear = of.capability(17) || (md_clear && of.control(28) && !of.capability(5));
    [
        (Exposures::MDS, md_clear),
        (Exposures::TAA, md_clear),
        (Exposures::MMIO, fb_clear),
        (Exposures::RFDS, of.capability(28)),
        (Exposures::TSA, of.more(5)),
    ]
    .into_iter()
    .filter(|&(what, clears)| clears && exposed.contains(what))
    .fold(Exposures::NONE, |all, (what, _)| all.with(what))
}

/// What [`plan`] closes. Never the first variant, speculative store bypass and Meltdown: bounds are checked, not masked; stores may be bypassed within a
/// program; and components see the core's half of the address space, though they may not read it.
fn closed(of: &Identity, exposed: Exposures) -> Exposures {
    let (ibpb, enhanced) = (of.has_ibpb(), of.tells_modes());
    let ibrs = of.make == Make::Intel && of.has_ibrs();
    // The first microcode for family 19h clears predictions of branches, not what it believes is one.
    let whole = of.family != 0x19 || of.more(28);
    let reduce = of.family == 0x1a && of.more(31);
    verw_for(of, exposed)
        .with(Exposures::SPECTRE_V2.when(ibpb))
        .with(Exposures::RETBLEED.when(ibrs || (of.make == Make::Amd && ibpb)))
        .with(Exposures::SRSO.when(reduce || (ibpb && whole)))
        .with(Exposures::L1TF.when(of.control(28) || of.capability(3)))
        // The firmware's microcode holds gathers back unless somebody has told it not to.
        .with(Exposures::GDS.when(of.capability(25)))
        .with(Exposures::BHI.with(Exposures::PBRSB).when(enhanced))
        .with(Exposures::ITS.with(Exposures::VMSCAPE).when(ibpb))
}

/// What the boot says of it, in two lines.
#[derive(Clone, Copy, Debug)]
pub struct Lines(pub BarrierPlan);

impl Lines {
    /// What the processor is exposed to.
    pub fn exposed(&self) -> impl fmt::Display {
        struct Line(BarrierPlan);
        impl fmt::Display for Line {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "side channels: exposed to {}; open: {}", self.0.exposed, self.0.open)
            }
        }
        Line(self.0)
    }

    /// What is done.
    pub fn done(&self) -> impl fmt::Display {
        struct Line(BarrierPlan);
        impl fmt::Display for Line {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let plan = &self.0;
                write!(
                    f,
                    "barriers {}: always {}; at exits {}; between tenants {}; at entries {}; before components {}",
                    plan.mode_name(),
                    Setup(plan.setup),
                    plan.exit,
                    plan.tenant,
                    plan.entry,
                    plan.component
                )
            }
        }
        Line(self.0)
    }
}

#[cfg(test)]
#[path = "barriers_test.rs"]
mod tests;
