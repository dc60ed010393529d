//! What was decided about the CPU, in the boot record's binary.

use crate::plan::{Controls, Plan};
use abi::boot::VmxPlan;

impl From<&Plan> for VmxPlan {
    fn from(plan: &Plan) -> VmxPlan {
        let Controls { pin_based, primary, secondary, exit, entry } = plan.controls;
        VmxPlan {
            pin_based,
            primary,
            secondary,
            exit,
            entry,
            revision: plan.revision,
            // The value that is written has the lock bit, so it is never 0.
            feature_control: plan.feature_control.unwrap_or(0),
            timer_shift: plan.timer_shift,
            timer_wrong: plan.timer_wrong.into(),
            ept_accessed_dirty: plan.ept_accessed_dirty.into(),
            invept: plan.invept,
            xcr0: plan.xcr0,
            xsaveopt: plan.xsaveopt.into(),
            guest_cr0: plan.guest_cr0,
            guest_cr4: plan.guest_cr4,
            guest_efer: plan.guest_efer,
            host_cr0: plan.host_cr0,
            host_cr4: plan.host_cr4,
        }
    }
}
