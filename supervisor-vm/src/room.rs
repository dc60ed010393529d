//! Memory for answers. Whoever reaches this VM can ask for long ones, any number at once: one for which there is no memory now is refused, and nobody ends this VM.

use crate::node::Node;
use crate::refusal::said;
use abi::control::{ControlReply, ControlRequest};
use alloc::string::{String, ToString};

/// Memory that is kept for an answer until it is there, or given up.
pub struct Room<'n> {
    node: &'n Node,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.node.rooms.set(self.node.rooms.get().saturating_sub(self.bytes));
    }
}

impl Node {
    /// Memory for an answer that takes so many bytes until it is there. What is there then counts by itself.
    ///
    /// # Errors
    ///
    /// There is not so much now.
    pub fn room(&self, bytes: usize) -> Result<Room<'_>, String> {
        // What others were promised they may have taken already: then it counts twice, and that is on the safe side.
        let promised = self.rooms.get().saturating_add(bytes);
        if !ilwaco::has_memory_for(promised) {
            return Err(
                "the operator's VM has no memory for the answer now: try again when fewer ask, or ask for less"
                    .to_string(),
            );
        }
        self.rooms.set(promised);
        Ok(Room { node: self, bytes })
    }

    /// How many VMs an answer is about that names so many at most, and those of them that live.
    ///
    /// # Errors
    ///
    /// What the core refuses.
    pub async fn at_most(&self, limit: usize) -> Result<usize, String> {
        let living = match self.ask(ControlRequest::Wakes, drop).await.map_err(said)? {
            ControlReply::Wakes { living, .. } => usize::try_from(living).unwrap_or(usize::MAX),
            _ => 0,
        };
        let named = self.names.borrow().len();
        Ok(limit.min(living.saturating_add(named)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use ilwaco::block_on;
    use ilwaco::control::Control;
    use ilwaco::sim::Sim;

    #[test]
    fn what_is_kept_for_an_answer_is_free_when_it_is_there() {
        let _sim = Sim::new("");
        Sim::control(|request, _| {
            vec![match request {
                ControlRequest::Wakes => ControlReply::Wakes {
                    living: 7,
                    admitted: 0,
                    out: 0,
                    waiting: 0,
                    woken: 0,
                    p50_ticks: 0,
                    p99_ticks: 0,
                },
                _ => ControlReply::Done { status: abi::control::status::NOT_FOUND, value: 0 },
            }]
        });
        block_on(async {
            let node = Node::new(Control::open().expect("a ring")).await.expect("an answer");
            assert_eq!((node.at_most(5).await, node.at_most(1000).await), (Ok(5), Ok(7)));
            let first = node.room(1000).expect("memory");
            let second = node.room(500).expect("memory");
            assert_eq!(node.rooms.get(), 1500);
            drop(first);
            assert_eq!(node.rooms.get(), 500);
            // Of 2,000 bytes 500 are promised already.
            Sim::leave(2000);
            let refused = node.room(1501).err();
            assert!(refused.is_some_and(|why| why.contains("no memory for the answer now: try again")));
            assert!(node.room(1500).is_ok() && node.rooms.get() == 500);
            drop(second);
            assert_eq!(node.rooms.get(), 0);
        });
    }
}
