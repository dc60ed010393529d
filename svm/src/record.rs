//! What was decided about the CPU, in the boot record's binary.

use crate::plan::Plan;
use abi::boot::{SvmPlan, svm_plan};

impl From<&Plan> for SvmPlan {
    fn from(plan: &Plan) -> SvmPlan {
        let flags = [
            (plan.next_rip, svm_plan::NEXT_RIP),
            (plan.clean_bits, svm_plan::CLEAN_BITS),
            (plan.tsc_aux, svm_plan::TSC_AUX),
            (plan.keeps_pointers, svm_plan::KEEPS_POINTERS),
            (plan.xsaveopt, svm_plan::XSAVEOPT),
        ];
        let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let of = &plan.intercepts;
        let (cr, dr) = (pair(of.cr_reads, of.cr_writes), pair(of.dr_reads, of.dr_writes));
        SvmPlan {
            intercepts: [cr, dr, of.exceptions, of.third, of.fourth, of.fifth],
            last_tag: plan.last_tag,
            flags: flags.into_iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit),
            xcr0: plan.xcr0,
            guest_cr0: plan.guest_cr0,
            guest_cr4: plan.guest_cr4,
            guest_efer: plan.guest_efer,
        }
    }
}
