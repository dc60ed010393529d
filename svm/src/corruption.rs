//! How a guest is spoilt, for the tests of a failed entry: in the test image only.

use crate::cr;
use crate::{Svm, SvmVcpu};
use backend::{Corrupt, Corruption};

impl Corrupt for SvmVcpu {
    fn corrupt(&mut self, cpu: &mut Svm, how: Corruption) {
        if let Some(vmcb) = self.vmcb() {
            match how {
                // NW without CD (APM vol. 2, 15.5.1).
                Corruption::GuestState => vmcb.save.cr0 |= cr::CR0_NW,
                // VMRUN has to be intercepted.
                Corruption::Controls => vmcb.control.intercepts.fourth = 0,
                // The host's part is the permission maps: one beyond any physical memory.
                Corruption::HostState => vmcb.control.msr_map = 0x000f_ffff_ffff_f000,
            }
            self.changed = true;
            cpu.active = 0;
        }
    }
}
