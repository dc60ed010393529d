//! What can be wrong with an event.

use abi::vm::VmId;

/// An event that does not fit what was said before. It is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It has a slot or a seat that the machine does not have.
    BadVm(VmId),
    /// The VM is not one of those that the scheduler orders.
    UnknownVm(VmId),
    /// The VM needs more frames than there are for VMs. It waits aside, and keeps nobody else waiting.
    TooBig {
        /// The VM.
        vm: VmId,
        /// What it needs.
        frames: u64,
        /// What the machine has.
        capacity: u64,
    },
}

impl core::fmt::Display for Oddity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Oddity::BadVm(vm) => write!(f, "{vm} has a slot or a seat that the machine does not have"),
            Oddity::UnknownVm(vm) => write!(f, "{vm} is not among those that run"),
            Oddity::TooBig { vm, frames, capacity } => write!(
                f,
                "{vm} needs {frames} frames and this machine has {capacity} for VMs: it is not admitted; destroy it, or give \
                 the machine more memory"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_is_wrong_with_which_vm() {
        let vm = VmId::new(7, 3);
        assert_eq!(Oddity::BadVm(vm).to_string(), format!("{vm} has a slot or a seat that the machine does not have"));
        assert_eq!(Oddity::UnknownVm(vm).to_string(), format!("{vm} is not among those that run"));
        let text = Oddity::TooBig { vm, frames: 900, capacity: 640 }.to_string();
        assert!(text.starts_with(&format!("{vm} needs 900 frames and this machine has 640 for VMs")), "{text}");
    }
}
