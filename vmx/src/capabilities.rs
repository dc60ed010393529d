//! What the CPU offers, and what Foraker makes of it: reading is one step, judging (pure, tested on the host) another.

use crate::controls::{ENTRY, EXIT, PIN_BASED, PRIMARY, SECONDARY, primary, secondary};
use crate::cr::{self, fixed};
use crate::plan::{Controls, Plan};
use crate::timer::counts_wrongly;
use crate::unfit::Unfit;
use backend::xcr0;
use backend::xstate::AREA_BYTES;
use x86::msr;

const FEATURE_CONTROL_LOCK: u64 = 1 << 0;
const FEATURE_CONTROL_VMX: u64 = 1 << 2;

/// CPUID leaves and MSRs, as they were read. 0 where the CPU does not have them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities {
    /// CPUID.1:EAX: family, model, stepping.
    pub signature: u32,
    /// CPUID.1:ECX.
    pub features: u32,
    /// CPUID.7.0:EBX.
    pub extended_features: u32,
    /// CPUID.80000001h:EDX.
    pub amd_features: u32,
    /// CPUID.Dh.0:EDX:EAX, bits that XCR0 can have.
    pub xcr0: u64,
    /// CPUID.Dh.1:EAX.
    pub xsave_features: u32,
    /// For each bit of XCR0 that we know, where its state ends in an XSAVE area (CPUID.Dh.n: EAX + EBX).
    pub xsave_ends: [u32; 8],
    /// IA32_FEATURE_CONTROL.
    pub feature_control: u64,
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// IA32_VMX_(TRUE_)PINBASED_CTLS.
    pub pin_based: u64,
    /// IA32_VMX_(TRUE_)PROCBASED_CTLS.
    pub primary: u64,
    /// IA32_VMX_PROCBASED_CTLS2.
    pub secondary: u64,
    /// IA32_VMX_(TRUE_)EXIT_CTLS.
    pub exit: u64,
    /// IA32_VMX_(TRUE_)ENTRY_CTLS.
    pub entry: u64,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// IA32_VMX_EPT_VPID_CAP.
    pub ept_vpid: u64,
    /// IA32_VMX_CR0_FIXED0 and 1.
    pub cr0_fixed: [u64; 2],
    /// IA32_VMX_CR4_FIXED0 and 1.
    pub cr4_fixed: [u64; 2],
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
        [found.signature, _, found.features, _] = cpuid(1, 0);
        if cpuid(0x8000_0000, 0)[0] >= 0x8000_0001 {
            found.amd_features = cpuid(0x8000_0001, 0)[3];
        }
        if top >= 7 {
            found.extended_features = cpuid(7, 0)[1];
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
        if found.features & 1 << 5 == 0 {
            return found;
        }
        found.feature_control = rdmsr(msr::IA32_FEATURE_CONTROL);
        found.basic = rdmsr(msr::IA32_VMX_BASIC);
        let exact = found.basic >> 55 & 1 == 1;
        let control = |plain, exactly| rdmsr(if exact { exactly } else { plain });
        found.pin_based = control(msr::IA32_VMX_PINBASED_CTLS, msr::IA32_VMX_TRUE_PINBASED_CTLS);
        found.primary = control(msr::IA32_VMX_PROCBASED_CTLS, msr::IA32_VMX_TRUE_PROCBASED_CTLS);
        found.exit = control(msr::IA32_VMX_EXIT_CTLS, msr::IA32_VMX_TRUE_EXIT_CTLS);
        found.entry = control(msr::IA32_VMX_ENTRY_CTLS, msr::IA32_VMX_TRUE_ENTRY_CTLS);
        if found.primary >> 32 & u64::from(primary::SECONDARY) != 0 {
            found.secondary = rdmsr(msr::IA32_VMX_PROCBASED_CTLS2);
        }
        if found.secondary >> 32 & u64::from(secondary::EPT | secondary::VPID) != 0 {
            found.ept_vpid = rdmsr(msr::IA32_VMX_EPT_VPID_CAP);
        }
        found.misc = rdmsr(msr::IA32_VMX_MISC);
        found.cr0_fixed = [rdmsr(msr::IA32_VMX_CR0_FIXED0), rdmsr(msr::IA32_VMX_CR0_FIXED1)];
        found.cr4_fixed = [rdmsr(msr::IA32_VMX_CR4_FIXED0), rdmsr(msr::IA32_VMX_CR4_FIXED1)];
        found
    }

    /// Judge them.
    ///
    /// # Errors
    /// The first thing that Foraker needs and that this CPU does not have.
    pub fn plan(&self) -> Result<Plan, Unfit> {
        if self.features & 1 << 5 == 0 {
            return Err(Unfit::NoVmx);
        }
        let locked = self.feature_control & FEATURE_CONTROL_LOCK != 0;
        if locked && self.feature_control & FEATURE_CONTROL_VMX == 0 {
            return Err(Unfit::LockedByFirmware(self.feature_control));
        }
        // First the word that has what users know by name: EPT and unrestricted guest.
        let secondary = SECONDARY.fit(self.secondary)?;
        let controls = Controls {
            pin_based: PIN_BASED.fit(self.pin_based)?,
            primary: PRIMARY.fit(self.primary)?,
            secondary,
            exit: EXIT.fit(self.exit)?,
            entry: ENTRY.fit(self.entry)?,
        };
        let ept = |bit: u32| self.ept_vpid >> bit & 1 == 1;
        // SDM vol. 3, A.10.
        for (present, what) in [
            (ept(6), "4-level tables"),
            (ept(14), "write-back tables"),
            (ept(20) && (ept(25) || ept(26)), "INVEPT"),
            (ept(32) && ept(42), "INVVPID of all contexts"),
        ] {
            if !present {
                return Err(Unfit::EptLacks { what, msr: self.ept_vpid });
            }
        }
        if self.amd_features & 1 << 20 == 0 {
            return Err(Unfit::NoFeature("no-execute pages (CPUID.80000001h:EDX bit 20)"));
        }
        let xcr0 = xcr0::choose(self.xcr0, &self.xsave_ends, AREA_BYTES);
        let Some(xcr0) = xcr0.filter(|_| self.features & 1 << 26 != 0) else {
            return Err(Unfit::NoFeature("XSAVE (CPUID.1:ECX bit 26)"));
        };

        let guest_cr0 = cr::CR0_PE | cr::CR0_MP | cr::CR0_ET | cr::CR0_NE | cr::CR0_WP | cr::CR0_PG;
        fixed("guest CR0", guest_cr0, self.cr0_fixed)?;
        let mut guest_cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT | cr::CR4_OSXSAVE | cr::CR4_VMXE;
        if self.extended_features & 1 << 0 != 0 {
            guest_cr4 |= cr::CR4_FSGSBASE;
        }
        // Without it a machine check while a guest runs would shut the processor down (SDM vol. 3, 26.2).
        guest_cr4 |= cr::CR4_MCE & self.cr4_fixed[1];
        fixed("guest CR4", guest_cr4, self.cr4_fixed)?;

        Ok(Plan {
            controls,
            revision: u32::try_from(self.basic & 0x7fff_ffff).unwrap_or(0),
            feature_control: (!locked).then_some(self.feature_control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX),
            timer_shift: u32::try_from(self.misc & 0x1f).unwrap_or(0),
            timer_wrong: counts_wrongly(self.signature),
            ept_accessed_dirty: ept(21),
            invept: if ept(25) { 1 } else { 2 },
            xcr0,
            xsaveopt: self.xsave_features & 1 != 0,
            guest_cr0,
            guest_cr4,
            // Long mode enabled and active, no-execute pages; no SYSCALL, whose MSRs the guest does not have.
            guest_efer: 1 << 8 | 1 << 10 | 1 << 11,
            host_cr0: self.cr0_fixed,
            host_cr4: self.cr4_fixed,
        })
    }
}

#[cfg(test)]
#[path = "capabilities_tests.rs"]
mod tests;
