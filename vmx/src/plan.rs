//! What was decided about the CPU, once: by who boots, for the core.

use abi::boot::VmxPlan;

/// The values of the five words for one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Controls {
    pub pin_based: u32,
    pub primary: u32,
    pub secondary: u32,
    pub exit: u32,
    pub entry: u32,
}

/// Bit of the secondary controls: ENCLS exits where its bitmap says.
pub const ENCLS: u32 = 1 << 15;
/// The same for ENCLV.
pub const ENCLV: u32 = 1 << 28;

/// Everything that is decided once for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The control words.
    pub controls: Controls,
    /// Revision identifier of VMCS regions.
    pub revision: u32,
    /// IA32_FEATURE_CONTROL is still open: this value has to be written.
    pub feature_control: Option<u64>,
    /// A unit of the preemption timer is 2^this ticks of the TSC.
    pub timer_shift: u32,
    /// The timer is known to count at another rate.
    pub timer_wrong: bool,
    /// EPT entries have accessed and dirty bits.
    pub ept_accessed_dirty: bool,
    /// Type of INVEPT to forget one VM's translations: 1 single-context, or 2 all contexts.
    pub invept: u64,
    /// XCR0 while guests run.
    pub xcr0: u64,
    /// There is XSAVEOPT.
    pub xsaveopt: bool,
    /// The guests' CR0.
    pub guest_cr0: u64,
    /// The guests' CR4; VMXE is hidden from them.
    pub guest_cr4: u64,
    /// The guests' EFER.
    pub guest_efer: u64,
    /// Bits that the core's CR0 has to have, and those that it may have.
    pub host_cr0: [u64; 2],
    /// The same for CR4.
    pub host_cr4: [u64; 2],
}

impl From<&VmxPlan> for Plan {
    fn from(plan: &VmxPlan) -> Plan {
        let &VmxPlan { pin_based, primary, secondary, exit, entry, .. } = plan;
        Plan {
            controls: Controls { pin_based, primary, secondary, exit, entry },
            revision: plan.revision,
            feature_control: Some(plan.feature_control).filter(|&value| value != 0),
            timer_shift: plan.timer_shift,
            timer_wrong: plan.timer_wrong != 0,
            ept_accessed_dirty: plan.ept_accessed_dirty != 0,
            invept: plan.invept,
            xcr0: plan.xcr0,
            xsaveopt: plan.xsaveopt != 0,
            guest_cr0: plan.guest_cr0,
            guest_cr4: plan.guest_cr4,
            guest_efer: plan.guest_efer,
            host_cr0: plan.host_cr0,
            host_cr4: plan.host_cr4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;
    extern crate std;

    /// Each word its own number, so that none can take another's place.
    #[test]
    fn a_plan_survives_the_record() {
        let bytes: std::vec::Vec<u8> =
            (0..size_of::<VmxPlan>()).map(|at| u8::try_from(at / 4 + 1).unwrap_or(0)).collect();
        let mut record = VmxPlan::read_from_bytes(&bytes).expect("the right size");
        (record.ept_accessed_dirty, record.xsaveopt, record.timer_wrong) = (1, 0, 0);
        let plan = Plan::from(&record);
        assert_eq!(VmxPlan::from(&plan), record);
        assert!(plan.feature_control.is_some() && plan.ept_accessed_dirty && !plan.xsaveopt && !plan.timer_wrong);
        (record.feature_control, record.xsaveopt, record.ept_accessed_dirty, record.timer_wrong) = (0, 1, 0, 1);
        let plan = Plan::from(&record);
        assert_eq!(VmxPlan::from(&plan), record);
        assert!(plan.feature_control.is_none() && plan.xsaveopt && !plan.ept_accessed_dirty && plan.timer_wrong);
    }
}
