//! What was decided about the CPU, once: by who boots, for the core.

use abi::boot::{SvmPlan, svm_plan};

/// The intercept words, as they lie in the VMCB.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intercepts {
    /// Reads of CR0 to CR15.
    pub cr_reads: u16,
    /// Writes of CR0 to CR15.
    pub cr_writes: u16,
    /// Reads of DR0 to DR15.
    pub dr_reads: u16,
    /// Writes of DR0 to DR15.
    pub dr_writes: u16,
    /// Exceptions 0 to 31.
    pub exceptions: u32,
    /// See `intercepts::third`; the loader fills the words in.
    pub third: u32,
    /// See `intercepts::fourth`.
    pub fourth: u32,
    /// See `intercepts::fifth`.
    pub fifth: u32,
}

/// Everything that is decided once for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What makes a guest exit.
    pub intercepts: Intercepts,
    /// Highest address space tag.
    pub last_tag: u32,
    /// Exits say where the next instruction is.
    pub next_rip: bool,
    /// The CPU may keep what did not change in the VMCB.
    pub clean_bits: bool,
    /// XCR0 while guests run.
    pub xcr0: u64,
    /// There is IA32_TSC_AUX, which guests can read by RDPID.
    pub tsc_aux: bool,
    /// XRSTOR leaves the x87's pointers to its last instruction and operand as they are where no exception is pending.
    pub keeps_pointers: bool,
    /// There is XSAVEOPT.
    pub xsaveopt: bool,
    /// The guests' CR0.
    pub guest_cr0: u64,
    /// The guests' CR4.
    pub guest_cr4: u64,
    /// The guests' EFER. SVME has to be set (APM vol. 2, 15.5.1); they cannot read it.
    pub guest_efer: u64,
}

impl From<&SvmPlan> for Plan {
    fn from(plan: &SvmPlan) -> Plan {
        let halves = |word: u32| {
            let [a, b, c, d] = word.to_le_bytes();
            (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
        };
        let [cr, dr, exceptions, third, fourth, fifth] = plan.intercepts;
        let ((cr_reads, cr_writes), (dr_reads, dr_writes)) = (halves(cr), halves(dr));
        let flag = |bit: u32| plan.flags & bit != 0;
        Plan {
            intercepts: Intercepts { cr_reads, cr_writes, dr_reads, dr_writes, exceptions, third, fourth, fifth },
            last_tag: plan.last_tag,
            next_rip: flag(svm_plan::NEXT_RIP),
            clean_bits: flag(svm_plan::CLEAN_BITS),
            xcr0: plan.xcr0,
            tsc_aux: flag(svm_plan::TSC_AUX),
            keeps_pointers: flag(svm_plan::KEEPS_POINTERS),
            xsaveopt: flag(svm_plan::XSAVEOPT),
            guest_cr0: plan.guest_cr0,
            guest_cr4: plan.guest_cr4,
            guest_efer: plan.guest_efer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each word its own number, so that none can take another's place.
    #[test]
    fn a_plan_survives_the_record() {
        for flags in 0..32 {
            let record = SvmPlan {
                intercepts: [0x0002_0001, 0x0004_0003, 5, 6, 7, 8],
                last_tag: 9,
                flags,
                xcr0: 10,
                guest_cr0: 11,
                guest_cr4: 12,
                guest_efer: 13,
            };
            let plan = Plan::from(&record);
            assert_eq!(SvmPlan::from(&plan), record);
            assert_eq!([plan.intercepts.cr_reads, plan.intercepts.dr_writes], [1, 4]);
        }
    }
}
