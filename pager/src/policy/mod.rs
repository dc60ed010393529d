//! What a paging policy is, and the policies.

pub mod demand;

use abi::pager::{PagerCommand, PagerEvent};
use abi::vm::VmId;

/// A paging policy: takes the core's events and answers with commands.
pub trait Policy {
    /// Handles one event. At most [`COMMANDS_MAX`] commands go to `send`.
    ///
    /// # Errors
    ///
    /// An [`Oddity`] when the event makes no sense. It is dropped, or, where a VM waits for the answer, that VM is refused.
    fn handle(&mut self, event: PagerEvent, send: &mut impl FnMut(PagerCommand)) -> Result<(), Oddity>;
}

/// Commands that one event causes at most.
pub const COMMANDS_MAX: u32 = 2;

/// An event that does not fit what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A fault of a VM that has not started or has ended.
    UnknownVm(VmId),
    /// A VM in a slot, or with an image, beyond the limits.
    BadVm(VmId),
    /// A page beyond the VM's memory.
    BadPage(VmId, u32),
    /// A segment of an image beyond the limits, one too many, or one whose pages make no sense.
    BadSegment(u16),
}

impl core::fmt::Display for Oddity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Oddity::UnknownVm(vm) => write!(f, "{vm} faults but is not alive"),
            Oddity::BadVm(vm) => write!(f, "{vm} has a slot or an image beyond the limits"),
            Oddity::BadPage(vm, page) => write!(f, "{vm} faults at page {page:#x} beyond its memory"),
            Oddity::BadSegment(image) => write!(f, "image {image} has a segment that makes no sense"),
        }
    }
}
