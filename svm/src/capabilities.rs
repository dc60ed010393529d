//! What the CPU offers, and what Foraker makes of it: reading is one step, judging (pure, tested on the host) another.

use crate::cr::{self, VM_CR};
use crate::error::Error;
use crate::plan::{Intercepts, Plan};
use backend::xcr0;
use backend::xstate::AREA_BYTES;
use x86::msr;

const VM_CR_SVMDIS: u64 = 1 << 4;

/// CPUID leaves and MSRs, as they were read. 0 where the CPU does not have them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities {
    /// CPUID.1:ECX.
    pub features: u32,
    /// CPUID.1:EDX.
    pub basic_features: u32,
    /// CPUID.7.0:EBX.
    pub extended_features: u32,
    /// CPUID.7.0:ECX.
    pub more_features: u32,
    /// CPUID.80000001h:ECX.
    pub amd_features: u32,
    /// CPUID.80000001h:EDX.
    pub amd_features_more: u32,
    /// CPUID.80000008h:EBX.
    pub amd_extensions: u32,
    /// CPUID.8000000Ah:EBX, the number of address space tags.
    pub tags: u32,
    /// CPUID.8000000Ah:EDX.
    pub svm_features: u32,
    /// CPUID.Dh.0:EDX:EAX, bits that XCR0 can have.
    pub xcr0: u64,
    /// CPUID.Dh.1:EAX.
    pub xsave_features: u32,
    /// For each bit of XCR0 that we know, where its state ends in an XSAVE area (CPUID.Dh.n: EAX + EBX).
    pub xsave_ends: [u32; 8],
    /// VM_CR.
    pub vm_cr: u64,
}

impl Capabilities {
    /// Read this CPU's.
    ///
    /// # Safety
    /// Ring 0.
    pub unsafe fn read() -> Capabilities {
        let cpuid = |leaf, subleaf| {
            let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
            [result.eax, result.ebx, result.ecx, result.edx]
        };
        // SAFETY: `gather` reads no MSR that the CPU does not announce; the caller is in ring 0.
        Self::gather(cpuid, |number| unsafe { msr::rdmsr(number) })
    }

    /// Ask for whatever exists, and for nothing else: reading an MSR that is not there would raise #GP.
    pub fn gather(cpuid: impl Fn(u32, u32) -> [u32; 4], rdmsr: impl Fn(u32) -> u64) -> Capabilities {
        let mut found = Capabilities::default();
        let top = cpuid(0, 0)[0];
        let top_amd = cpuid(0x8000_0000, 0)[0];
        [_, _, found.features, found.basic_features] = cpuid(1, 0);
        if top >= 7 {
            [_, found.extended_features, found.more_features, _] = cpuid(7, 0);
        }
        if top_amd >= 0x8000_0001 {
            let [_, _, ecx, edx] = cpuid(0x8000_0001, 0);
            (found.amd_features, found.amd_features_more) = (ecx, edx);
        }
        if top_amd >= 0x8000_0008 {
            found.amd_extensions = cpuid(0x8000_0008, 0)[1];
        }
        if top >= 0xd && found.features & 1 << 26 != 0 {
            let [low, _, _, high] = cpuid(0xd, 0);
            found.xcr0 = u64::from(high) << 32 | u64::from(low);
            found.xsave_features = cpuid(0xd, 1)[0];
            for (bit, end) in (0..).zip(&mut found.xsave_ends) {
                if bit >= 2 && found.xcr0 >> bit & 1 == 1 {
                    let [size, offset, ..] = cpuid(0xd, bit);
                    *end = offset.saturating_add(size);
                }
            }
        }
        if found.amd_features & 1 << 2 != 0 {
            found.vm_cr = rdmsr(VM_CR);
            if top_amd >= 0x8000_000a {
                let [_, tags, _, features] = cpuid(0x8000_000a, 0);
                (found.tags, found.svm_features) = (tags, features);
            }
        }
        found
    }

    /// Judge: what Foraker does on such a CPU.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn plan(&self) -> Result<Plan, Error> {
        if self.amd_features & 1 << 2 == 0 {
            return Err(Error::NoSvm);
        }
        if self.vm_cr & VM_CR_SVMDIS != 0 {
            return Err(Error::DisabledByFirmware(self.vm_cr));
        }
        let has = |bit: u32| self.svm_features >> bit & 1 == 1;
        if !has(0) {
            return Err(Error::NoNestedPaging);
        }
        if self.tags < 2 {
            return Err(Error::FewTags(self.tags));
        }
        if self.amd_features_more & 1 << 20 == 0 {
            return Err(Error::NoFeature("no-execute pages (CPUID.80000001h:EDX bit 20)"));
        }
        let xcr0 = xcr0::choose(self.xcr0, &self.xsave_ends, AREA_BYTES);
        let Some(xcr0) = xcr0.filter(|_| self.features & 1 << 26 != 0) else {
            return Err(Error::NoFeature("XSAVE (CPUID.1:ECX bit 26)"));
        };
        let mut guest_cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT | cr::CR4_OSXSAVE;
        if self.extended_features & 1 << 0 != 0 {
            guest_cr4 |= cr::CR4_FSGSBASE;
        }
        // Without it a machine check while a guest runs would shut the processor down (APM vol. 2, 9.3.3).
        if self.basic_features & 1 << 7 != 0 {
            guest_cr4 |= cr::CR4_MCE;
        }
        let extension = |bit: u32| self.amd_extensions >> bit & 1 == 1;
        Ok(Plan {
            intercepts: Intercepts::new(extension(4), self.extended_features >> 10 & 1 == 1, extension(8), has(29)),
            last_tag: self.tags - 1,
            tsc_aux: self.amd_features_more >> 27 & 1 == 1 || self.more_features >> 22 & 1 == 1,
            // RstrFpErrPtrs (APM vol. 3, CPUID Fn8000_0008): families 15h and 16h do not have it.
            keeps_pointers: !extension(2),
            next_rip: has(3),
            clean_bits: has(5),
            xcr0,
            xsaveopt: self.xsave_features & 1 != 0,
            guest_cr0: cr::CR0_PE | cr::CR0_MP | cr::CR0_ET | cr::CR0_NE | cr::CR0_WP | cr::CR0_PG,
            guest_cr4,
            guest_efer: cr::EFER_LME | cr::EFER_LMA | cr::EFER_NXE | cr::EFER_SVME,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::cell::RefCell;
    use std::vec::Vec;

    /// QEMU's EPYC without KVM.
    fn epyc() -> Capabilities {
        Capabilities {
            features: 1 << 26,
            basic_features: 1 << 7,
            extended_features: 1,
            more_features: 0,
            amd_features: 1 << 2,
            amd_features_more: 1 << 20,
            amd_extensions: 0,
            tags: 16,
            svm_features: 1,
            xcr0: 0x7,
            xsave_features: 1,
            xsave_ends: [0, 0, 832, 0, 0, 0, 0, 0],
            vm_cr: 0,
        }
    }

    #[test]
    fn the_least_svm_is_good_enough() {
        let plan = epyc().plan().expect("good enough");
        assert_eq!(plan.last_tag, 15);
        assert!(!plan.next_rip && !plan.clean_bits && plan.xsaveopt);
        assert!(!plan.tsc_aux && plan.keeps_pointers);
        assert_eq!(plan.xcr0, 7);
        assert_eq!(plan.guest_cr0, 0x8001_0033);
        assert_eq!(plan.guest_cr4, 0x0005_0660);
        assert_eq!(plan.guest_efer, 0x1d00);
        let more = Capabilities { svm_features: 0x29, ..epyc() }.plan().expect("better");
        assert!(more.next_rip && more.clean_bits);
        for newer in [
            Capabilities { more_features: 1 << 22, amd_extensions: 1 << 2, ..epyc() },
            Capabilities { amd_features_more: 1 << 20 | 1 << 27, amd_extensions: 1 << 2, ..epyc() },
        ] {
            let plan = newer.plan().expect("better");
            assert!(plan.tsc_aux && !plan.keeps_pointers);
        }
    }

    #[test]
    fn what_is_missing_has_an_error_of_its_own() {
        let error = |capabilities: Capabilities| capabilities.plan().expect_err("deprived");
        assert_eq!(error(Capabilities { amd_features: 0, ..epyc() }), Error::NoSvm);
        assert_eq!(error(Capabilities { vm_cr: 0x18, ..epyc() }), Error::DisabledByFirmware(0x18));
        assert_eq!(error(Capabilities { svm_features: !1, ..epyc() }), Error::NoNestedPaging);
        assert_eq!(error(Capabilities { tags: 1, ..epyc() }), Error::FewTags(1));
        for deprived in [
            Capabilities { amd_features_more: 0, ..epyc() },
            Capabilities { features: 0, ..epyc() },
            Capabilities { xcr0: 1, ..epyc() },
        ] {
            assert!(matches!(error(deprived), Error::NoFeature(_)));
        }
    }

    #[test]
    fn a_cpu_without_svm_is_not_asked_for_its_msr() {
        let asked = RefCell::new(Vec::new());
        let found = Capabilities::gather(
            |leaf, _| if leaf == 0x8000_0000 { [0x8000_0008, 0, 0, 0] } else { [0; 4] },
            |number| {
                asked.borrow_mut().push(number);
                0
            },
        );
        assert_eq!(found.plan(), Err(Error::NoSvm));
        assert!(asked.borrow().is_empty());
    }

    #[test]
    fn everything_is_read_from_its_place() {
        let found = Capabilities::gather(
            |leaf, subleaf| match (leaf, subleaf) {
                (0, _) => [0xd, 0, 0, 0],
                (1, _) => [0, 0, 1 << 26, 0],
                (7, 0) => [0, 0x401, 0, 0],
                (0xd, 0) => [7, 0, 0, 0],
                (0xd, 1) => [1, 0, 0, 0],
                (0xd, 2) => [256, 576, 0, 0],
                (0x8000_0000, _) => [0x8000_000a, 0, 0, 0],
                (0x8000_0001, _) => [0, 0, 1 << 2, 1 << 20],
                (0x8000_0008, _) => [0, 0x110, 0, 0],
                (0x8000_000a, _) => [1, 0x8000, 0, 0x29],
                _ => [0; 4],
            },
            |number| if number == VM_CR { 0x8 } else { u64::MAX },
        );
        let plan = found.plan().expect("everything is there");
        assert_eq!(plan.last_tag, 0x7fff);
        assert_eq!(plan.intercepts, Intercepts::new(true, true, true, false));
        let locks = Capabilities { svm_features: 1 | 1 << 29, ..epyc() }.plan().expect("good enough").intercepts;
        assert_eq!(locks, Intercepts::new(false, false, false, true));
    }
}
