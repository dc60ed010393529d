//! The five words that say what makes a guest exit: what Foraker wants, and the formula that fits it to a CPU.
//!
//! Each word is one table. What the CPU can do comes from its capability MSR (SDM vol. 3, appendix A.3 to A.5): bits
//! 31..0 are those that must be 1, bits 63..32 those that may be 1.
//!
//! There is neither an I/O nor an MSR bitmap: without "use MSR bitmaps" every RDMSR and WRMSR exits, and with
//! "unconditional I/O exiting" every port access does. A bitmap that does not exist has no holes.

use core::fmt;

/// One control word.
#[derive(Debug)]
pub struct Word {
    /// How error messages call it.
    pub name: &'static str,
    /// Bits that Foraker cannot do without.
    pub required: u32,
    /// Bits that it sets where the CPU has them.
    pub optional: u32,
    /// Bits without a meaning that CPUs want to be 1 (SDM vol. 3, A.2, "default1", less those that mean something).
    pub reserved_1: u32,
    /// Names of the bits.
    pub names: &'static [(u32, &'static str)],
}

impl PartialEq for Word {
    fn eq(&self, other: &Word) -> bool {
        self.name == other.name
    }
}
impl Eq for Word {}

/// Bits of one word that the CPU does not let us have as we want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The word.
    pub word: &'static Word,
    /// The bits.
    pub bits: u32,
    /// The CPU insists on the bits, instead of lacking them.
    pub forced: bool,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VT-x {}: the CPU {}", self.word.name, if self.forced { "insists on" } else { "lacks" })?;
        let mut separator = " ";
        for bit in (0..32).filter(|bit| self.bits >> bit & 1 == 1) {
            match self.word.names.iter().find(|(mask, _)| *mask == 1 << bit) {
                Some((_, name)) => write!(f, "{separator}{name} (bit {bit})")?,
                None => write!(f, "{separator}bit {bit}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

impl Word {
    /// The value of this word for a CPU whose capability MSR is `msr`.
    ///
    /// # Errors
    /// Required bits that may not be 1; or bits that must be 1 although we know nothing of them, which could change what a
    /// guest can do.
    pub fn fit(&'static self, msr: u64) -> Result<u32, Misfit> {
        // The two halves of the MSR.
        #[allow(clippy::cast_possible_truncation)]
        let (must, may) = (msr as u32, (msr >> 32) as u32);
        let lacking = self.required & !may;
        if lacking != 0 {
            return Err(Misfit { word: self, bits: lacking, forced: false });
        }
        let forced = must & !(self.required | self.optional | self.reserved_1);
        if forced != 0 {
            return Err(Misfit { word: self, bits: forced, forced: true });
        }
        Ok(self.required | self.optional & may | must)
    }
}

/// Bits of the pin-based controls (SDM vol. 3, table 25-5).
#[allow(missing_docs)]
pub mod pin {
    pub const EXTERNAL_INTERRUPTS: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 3;
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
}

/// Every interrupt belongs to the core, and a quantum ends.
pub static PIN_BASED: Word = Word {
    name: "pin-based controls",
    required: pin::EXTERNAL_INTERRUPTS | pin::NMI | pin::PREEMPTION_TIMER,
    optional: 0,
    reserved_1: 0x16,
    names: &[
        (pin::EXTERNAL_INTERRUPTS, "external-interrupt exiting"),
        (pin::NMI, "NMI exiting"),
        (1 << 5, "virtual NMIs"),
        (pin::PREEMPTION_TIMER, "VMX-preemption timer"),
        (1 << 7, "posted interrupts"),
    ],
};

/// Bits of the primary processor-based controls (SDM vol. 3, table 25-6).
#[allow(missing_docs)]
pub mod primary {
    pub const INTERRUPT_WINDOW: u32 = 1 << 2;
    pub const TSC_OFFSETTING: u32 = 1 << 3;
    pub const HLT: u32 = 1 << 7;
    pub const INVLPG: u32 = 1 << 9;
    pub const MWAIT: u32 = 1 << 10;
    pub const RDPMC: u32 = 1 << 11;
    pub const RDTSC: u32 = 1 << 12;
    pub const CR3_LOAD: u32 = 1 << 15;
    pub const CR3_STORE: u32 = 1 << 16;
    pub const CR8_LOAD: u32 = 1 << 19;
    pub const CR8_STORE: u32 = 1 << 20;
    pub const MOV_DR: u32 = 1 << 23;
    pub const UNCONDITIONAL_IO: u32 = 1 << 24;
    pub const IO_BITMAPS: u32 = 1 << 25;
    pub const MSR_BITMAPS: u32 = 1 << 28;
    pub const MONITOR: u32 = 1 << 29;
    pub const SECONDARY: u32 = 1 << 31;
}

/// What is not plain computation exits. CR3, INVLPG and RDTSC are the guest's own: EPT confines what its tables say.
pub static PRIMARY: Word = Word {
    name: "primary controls",
    required: primary::TSC_OFFSETTING
        | primary::HLT
        | primary::MWAIT
        | primary::RDPMC
        | primary::CR8_LOAD
        | primary::CR8_STORE
        | primary::MOV_DR
        | primary::UNCONDITIONAL_IO
        | primary::MONITOR
        | primary::SECONDARY,
    optional: 0,
    reserved_1: 0x0400_6172,
    names: &[
        (primary::INTERRUPT_WINDOW, "interrupt-window exiting"),
        (primary::TSC_OFFSETTING, "TSC offsetting"),
        (primary::HLT, "HLT exiting"),
        (primary::INVLPG, "INVLPG exiting"),
        (primary::MWAIT, "MWAIT exiting"),
        (primary::RDPMC, "RDPMC exiting"),
        (primary::RDTSC, "RDTSC exiting"),
        (primary::CR3_LOAD, "CR3-load exiting"),
        (primary::CR3_STORE, "CR3-store exiting"),
        (primary::CR8_LOAD, "CR8-load exiting"),
        (primary::CR8_STORE, "CR8-store exiting"),
        (primary::MOV_DR, "MOV-DR exiting"),
        (primary::UNCONDITIONAL_IO, "unconditional I/O exiting"),
        (primary::IO_BITMAPS, "I/O bitmaps"),
        (primary::MSR_BITMAPS, "MSR bitmaps"),
        (primary::MONITOR, "MONITOR exiting"),
        (primary::SECONDARY, "secondary controls"),
    ],
};

/// Bits of the secondary processor-based controls (SDM vol. 3, table 25-7).
#[allow(missing_docs)]
pub mod secondary {
    pub use crate::plan::{ENCLS, ENCLV};
    pub const EPT: u32 = 1 << 1;
    pub const DESCRIPTOR_TABLES: u32 = 1 << 2;
    pub const RDTSCP: u32 = 1 << 3;
    pub const VPID: u32 = 1 << 5;
    pub const WBINVD: u32 = 1 << 6;
    pub const UNRESTRICTED_GUEST: u32 = 1 << 7;
    pub const INVPCID: u32 = 1 << 12;
    pub const VMFUNC: u32 = 1 << 13;
    pub const XSAVES: u32 = 1 << 20;
    pub const BUS_LOCK: u32 = 1 << 30;
}

/// Nested paging, and more that exits. What is not enabled here (RDTSCP, INVPCID, VMFUNC, XSAVES, user wait, ...) raises
/// #UD in the guest. ENCLS and ENCLV do not: they run unless they exit, so they exit where the CPU has them.
pub static SECONDARY: Word = Word {
    name: "secondary controls",
    required: secondary::EPT
        | secondary::DESCRIPTOR_TABLES
        | secondary::VPID
        | secondary::WBINVD
        | secondary::UNRESTRICTED_GUEST,
    optional: secondary::ENCLS | secondary::ENCLV | secondary::BUS_LOCK,
    reserved_1: 0,
    names: &[
        (secondary::EPT, "EPT"),
        (secondary::DESCRIPTOR_TABLES, "descriptor-table exiting"),
        (secondary::RDTSCP, "RDTSCP"),
        (secondary::VPID, "VPID"),
        (secondary::WBINVD, "WBINVD exiting"),
        (secondary::UNRESTRICTED_GUEST, "unrestricted guest"),
        (secondary::INVPCID, "INVPCID"),
        (secondary::VMFUNC, "VM functions"),
        (secondary::ENCLS, "ENCLS exiting"),
        (secondary::XSAVES, "XSAVES"),
        (secondary::ENCLV, "ENCLV exiting"),
        (secondary::BUS_LOCK, "bus-lock detection"),
    ],
};

/// Bits of the exit controls (SDM vol. 3, table 25-13).
#[allow(missing_docs)]
pub mod exit {
    pub const SAVE_DEBUG: u32 = 1 << 2;
    pub const HOST_64: u32 = 1 << 9;
    pub const ACKNOWLEDGE_INTERRUPT: u32 = 1 << 15;
    pub const LOAD_PAT: u32 = 1 << 19;
    pub const LOAD_EFER: u32 = 1 << 21;
}

/// Nothing of the guest's MSRs is saved, because it cannot change them; the host's come back.
pub static EXIT: Word = Word {
    name: "exit controls",
    required: exit::HOST_64 | exit::ACKNOWLEDGE_INTERRUPT | exit::LOAD_PAT | exit::LOAD_EFER,
    // Harmless where the CPU insists on it: DR7 and IA32_DEBUGCTL of the guest never change.
    optional: exit::SAVE_DEBUG,
    reserved_1: 0x0003_6dfb,
    names: &[
        (exit::SAVE_DEBUG, "save debug controls"),
        (exit::HOST_64, "64-bit host"),
        (exit::ACKNOWLEDGE_INTERRUPT, "acknowledge interrupt on exit"),
        (exit::LOAD_PAT, "load IA32_PAT"),
        (exit::LOAD_EFER, "load IA32_EFER"),
    ],
};

/// Bits of the entry controls (SDM vol. 3, table 25-16).
#[allow(missing_docs)]
pub mod entry {
    pub const LOAD_DEBUG: u32 = 1 << 2;
    pub const GUEST_64: u32 = 1 << 9;
    pub const LOAD_PAT: u32 = 1 << 14;
    pub const LOAD_EFER: u32 = 1 << 15;
}

/// A 64-bit guest with debug registers, PAT and EFER of its own.
pub static ENTRY: Word = Word {
    name: "entry controls",
    required: entry::LOAD_DEBUG | entry::GUEST_64 | entry::LOAD_PAT | entry::LOAD_EFER,
    optional: 0,
    reserved_1: 0x0000_11fb,
    names: &[
        (entry::LOAD_DEBUG, "load debug controls"),
        (entry::GUEST_64, "64-bit guest"),
        (entry::LOAD_PAT, "load IA32_PAT"),
        (entry::LOAD_EFER, "load IA32_EFER"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    const WORDS: [&Word; 5] = [&PIN_BASED, &PRIMARY, &SECONDARY, &EXIT, &ENTRY];

    #[test]
    fn a_fitted_word_is_wanted_and_forced_bits() {
        // Skylake's IA32_VMX_TRUE_PROCBASED_CTLS.
        let word = PRIMARY.fit(0xfff9_fffe_0400_6172).expect("all there");
        assert_eq!(word, PRIMARY.required | 0x0400_6172);
        assert_eq!(SECONDARY.fit(0x0000_80e6_0000_0000).expect("ENCLS, no ENCLV") & secondary::ENCLS, secondary::ENCLS);
    }

    #[test]
    fn nothing_is_let_through_by_a_bitmap() {
        // All MSR and port accesses exit because there is no bitmap that could have a hole.
        let all = u64::from(u32::MAX) << 32;
        let word = PRIMARY.fit(all | u64::from(PRIMARY.reserved_1)).expect("everything may be set");
        assert_eq!(word & (primary::MSR_BITMAPS | primary::IO_BITMAPS), 0);
        assert_eq!(word & primary::UNCONDITIONAL_IO, primary::UNCONDITIONAL_IO);
        assert_eq!(word & (primary::CR3_LOAD | primary::CR3_STORE | primary::INVLPG | primary::RDTSC), 0);
        let word = SECONDARY.fit(all).expect("everything may be set");
        let enabling = secondary::RDTSCP | secondary::INVPCID | secondary::VMFUNC | secondary::XSAVES;
        assert_eq!(word & enabling, 0, "instructions that need an enable stay #UD");
    }

    #[test]
    fn missing_bits_are_named() {
        let may = u64::from(!(secondary::EPT | secondary::UNRESTRICTED_GUEST)) << 32;
        let misfit = SECONDARY.fit(may).expect_err("deprived");
        assert_eq!(
            misfit.to_string(),
            "VT-x secondary controls: the CPU lacks EPT (bit 1), unrestricted guest (bit 7)"
        );
    }

    #[test]
    fn forced_bits_are_named() {
        // Without the "true" MSRs bits 15 and 16 are among those that must be 1.
        let misfit = PRIMARY.fit(0xfff9_fffe_0401_e172).expect_err("CR3 loads would exit");
        assert_eq!(
            misfit.to_string(),
            "VT-x primary controls: the CPU insists on CR3-load exiting (bit 15), CR3-store exiting (bit 16)"
        );
        let misfit = SECONDARY.fit(u64::MAX << 32 | 1 << 11).expect_err("RDRAND would exit");
        assert_eq!(misfit.to_string(), "VT-x secondary controls: the CPU insists on bit 11");
    }

    #[test]
    fn each_wanted_bit_has_one_name_and_one_role() {
        for word in WORDS {
            assert_eq!(word.required & word.optional, 0, "{}", word.name);
            assert_eq!((word.required | word.optional) & word.reserved_1, 0, "{}", word.name);
            for bit in 0..32 {
                let named = word.names.iter().filter(|(mask, _)| *mask == 1 << bit).count();
                let wanted = (word.required | word.optional) >> bit & 1 == 1;
                assert!(named == 1 || (named == 0 && !wanted), "{} bit {bit}", word.name);
            }
        }
    }
}
