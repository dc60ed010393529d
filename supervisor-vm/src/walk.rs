//! A walk over the VMs of the machine, by their slots. The core is asked for several at a time: most of what one question costs is to ring.

use crate::node::{Node, Vm};
use abi::control::{ControlReply, ControlRequest, status};
use abi::vm::{Slot, VmId};
use alloc::vec::Vec;
use ilwaco::control::{AT_ONCE, Error};

/// What is asked of each VM, and what the answer says of which one.
type Question<T> = (fn(Slot) -> ControlRequest, fn(ControlReply) -> Result<(VmId, T), Error>);

/// Where a walk is.
pub struct Walk<'n, T> {
    node: &'n Node,
    question: Question<T>,
    /// The slot to go on from; `None` at the end.
    from: Option<u32>,
    /// Slots that are asked for at once, for as long as VMs live in all of them: where there are gaps several questions would have one answer.
    width: u32,
}

impl<'n> Walk<'n, Vm> {
    /// Over the VMs that live, from a slot on.
    pub fn vms(node: &'n Node, from: u32) -> Walk<'n, Vm> {
        Walk::new(node, from, (|slot| ControlRequest::NextVm { slot }, |reply| Vm::of(reply).map(|vm| (vm.id, vm))))
    }
}

impl<'n, T> Walk<'n, T> {
    /// Over what `question` asks of the VM in a slot or in the next one where one lives, from a slot on.
    pub fn new(node: &'n Node, from: u32, question: Question<T>) -> Walk<'n, T> {
        Walk { node, question, from: Some(from), width: 1 }
    }

    /// The next ones, at least one; none at the end.
    ///
    /// # Errors
    ///
    /// As [`ilwaco::control::Control::ask`].
    pub async fn next(&mut self) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        while let (true, Some(first)) = (found.is_empty(), self.from) {
            let slots = first..first.saturating_add(self.width);
            let questions: Vec<_> = slots.clone().map(|slot| (self.question.0)(Slot::new(slot))).collect();
            // Others may ask in between: who has many VMs keeps nobody waiting.
            let replies = self.node.ask_each(&questions).await?;
            let (mut from, mut gaps, mut ends) = (first, false, false);
            for (slot, reply) in slots.zip(replies) {
                match reply {
                    ControlReply::Done { status: status::GO_ON, value } => {
                        gaps = true;
                        from = from.max(u32::try_from(value).unwrap_or(0));
                    }
                    ControlReply::Done { .. } => ends = true,
                    reply => {
                        let (id, vm) = (self.question.1)(reply)?;
                        let number = id.slot.number();
                        if number < slot {
                            return Err(Error::Answer);
                        }
                        gaps |= number > slot;
                        // The same one may be the answer to several.
                        if number >= from {
                            found.push(vm);
                            from = number.saturating_add(1);
                        }
                    }
                }
            }
            // Each round leads on, or the walk would never end.
            if !ends && from <= first {
                return Err(Error::Answer);
            }
            self.from = Some(from).filter(|_| !ends);
            self.width = if gaps { (self.width / 2).max(1) } else { (self.width * 2).min(WIDEST) };
        }
        Ok(found)
    }
}

/// Slots that are asked for at once.
// A small number.
#[allow(clippy::cast_possible_truncation)]
const WIDEST: u32 = AT_ONCE as u32;
