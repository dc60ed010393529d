//! What a paging policy is, and the policies.

pub mod demand;

use abi::pager::{PagerCommand, PagerEvent};
use abi::vm::{ImageId, VmId};
use component::Tables;

/// A paging policy: takes the core's events and answers with commands. `docs/policies.md` tells how to write one.
pub trait Policy: Sized {
    /// What the boot option calls it.
    const NAME: &'static str;

    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    const SEAT_BYTES: u32;

    /// Knows nothing yet.
    fn new(tables: &mut Tables) -> Self;

    /// Handles one event. The answer is a command, if there is one to give; when that gives a VM a page, [`served`] says
    /// that [`PagerCommand::Resume`] has to follow.
    ///
    /// # Errors
    ///
    /// An [`Oddity`] when the event makes no sense; it is dropped.
    fn handle(&mut self, event: PagerEvent) -> Result<Option<PagerCommand>, Oddity>;
}

/// The VM that gets a page by `command` and can go on after it.
#[inline]
pub fn served(command: &PagerCommand) -> Option<VmId> {
    match *command {
        PagerCommand::MapZero { vm, .. } | PagerCommand::MapImage { vm, .. } | PagerCommand::CopyImage { vm, .. } => {
            Some(vm)
        }
        PagerCommand::Resume { .. }
        | PagerCommand::Refuse { .. }
        | PagerCommand::Out { .. }
        | PagerCommand::Look { .. }
        | PagerCommand::Away { .. } => None,
    }
}

/// An event that does not fit what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A fault of a VM that has not started or has ended.
    UnknownVm(VmId),
    /// A VM in a seat that the machine does not have, or with an image or a size beyond the limits.
    BadVm(VmId),
    /// A segment of an image beyond the limits, one too many, or one whose pages make no sense.
    BadSegment(ImageId),
}

impl core::fmt::Display for Oddity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Oddity::UnknownVm(vm) => write!(f, "{vm} faults but is not alive"),
            Oddity::BadVm(vm) => write!(f, "{vm} has a seat, an image or a size beyond the limits"),
            Oddity::BadSegment(image) => write!(f, "image {image} has a segment that makes no sense"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oddity_says_what_is_wrong_with_what() {
        let vm = VmId::new(7, 3);
        assert_eq!(Oddity::UnknownVm(vm).to_string(), format!("{vm} faults but is not alive"));
        assert_eq!(Oddity::BadVm(vm).to_string(), format!("{vm} has a seat, an image or a size beyond the limits"));
        assert_eq!(Oddity::BadSegment(ImageId::new(4)).to_string(), "image 4 has a segment that makes no sense");
    }
}
