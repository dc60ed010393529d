//! How a guest is spoilt, for the tests of a failed entry: in the test image only.

use crate::fields::{Control32, GuestNatural, Host16};
use crate::{Vtx, VtxVcpu};
use backend::{Corrupt, Corruption};

impl Corrupt for VtxVcpu {
    fn corrupt(&mut self, cpu: &mut Vtx, how: Corruption) {
        if let Some(mut vmcs) = self.loaded(cpu) {
            match how {
                Corruption::GuestState => vmcs.set(GuestNatural::Rflags, 0),
                // More than any processor has (SDM vol. 3, 27.2.1.1); nothing on the way to the entry writes it again.
                Corruption::Controls => vmcs.set(Control32::Cr3TargetCount, u32::MAX),
                Corruption::HostState => vmcs.set(Host16::TrSelector, 0),
            }
        }
    }
}
