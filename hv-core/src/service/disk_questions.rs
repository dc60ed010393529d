//! Questions of VMs that control the machine to the striper ([`abi::disk`]). The core passes them on and their answers back, and knows nothing of
//! disks. A VM has one that is not answered yet, so that the answer finds room ([`super::callers`]); if the striper is started anew meanwhile, the
//! VM hears that.

use crate::board::Board;
use crate::component::{EndpointId, Party};
use crate::kernel::Cpu;
use abi::control::{ControlReply, status};
use abi::disk::{DiskReply, DiskRequest};
use abi::message::{BadMessage, Malformed, Message};
use abi::service::Service;
use backend::Backend;

/// Questions that are not answered yet, at most.
const MOST: usize = 4;

/// A question that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// As the striper knows it.
    number: u32,
    asker: EndpointId,
    /// As whoever has asked knows it.
    id: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct DiskQuestions {
    open: heapless::Vec<Question, MOST>,
    last: u32,
}

impl DiskQuestions {
    /// Notes a question: its number; `None` while there are as many as may be, or one of the same party.
    fn open(&mut self, asker: EndpointId, id: u32) -> Option<u32> {
        if self.open.iter().any(|question| question.asker == asker) {
            return None;
        }
        // 0 is that of what the striper says by itself.
        let number = self.last.wrapping_add(1).max(1);
        self.open.push(Question { number, asker, id }).ok()?;
        self.last = number;
        Some(number)
    }

    /// Takes the question that is answered.
    fn close(&mut self, number: u32) -> Option<Question> {
        let at = self.open.iter().position(|question| question.number == number)?;
        Some(self.open.swap_remove(at))
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Pass a question of the VM at this endpoint on to the striper. What is answered at once, if it is.
    ///
    /// # Errors
    /// What is no such question, and one of a component: those that may ask have a ring of their own with the striper.
    pub(super) fn ask_disks(
        &mut self,
        from: EndpointId,
        message: &Message,
    ) -> Result<Option<ControlReply>, BadMessage> {
        let request = DiskRequest::try_from(message)?;
        if !matches!(self.endpoints.get(from).map(|endpoint| endpoint.party), Some(Party::Vm(_))) {
            return Err(BadMessage { kind: message.kind, what: Malformed::Kind });
        }
        let refused = |status| Ok(Some(ControlReply::Done { status, value: 0 }));
        let striper = self.endpoints.first(Service::Disk);
        if self.endpoints.rank(striper).is_none() {
            return refused(status::NO_DISKS);
        }
        if !self.has_room(striper) {
            return refused(status::BUSY);
        }
        let Some(number) = self.disk_questions.open(from, message.id) else { return refused(status::BUSY) };
        self.tell(striper, &Message { id: number, ..request.into() }, true);
        Ok(None)
    }

    /// The striper has answered a question. One that nobody has asked, or waits for any more, is for nobody.
    ///
    /// # Errors
    /// What is no answer.
    pub(super) fn disks_answer(&mut self, message: &Message) -> Result<(), BadMessage> {
        let reply = DiskReply::try_from(message)?;
        if let Some(Question { asker, id, .. }) = self.disk_questions.close(message.id) {
            self.tell(asker, &Message { id, ..reply.into() }, true);
        }
        Ok(())
    }

    /// The striper has just been started: what its predecessor was asked it will not answer.
    pub(super) fn disks_forget(&mut self) {
        let lost = ControlReply::Done { status: status::DISKS_LOST, value: 0 };
        for Question { asker, id, .. } in core::mem::take(&mut self.disk_questions.open) {
            self.tell(asker, &Message { id, ..lost.into() }, true);
        }
    }

    /// The party at this endpoint is gone for good.
    pub(super) fn forget_question(&mut self, gone: EndpointId) {
        self.disk_questions.open.retain(|question| question.asker != gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_has_one_and_numbers_are_not_given_again() {
        let mut questions = DiskQuestions { last: u32::MAX - 1, ..DiskQuestions::default() };
        let at = EndpointId::new;
        assert_eq!((questions.open(at(1), 7), questions.open(at(1), 8)), (Some(u32::MAX), None));
        assert_eq!([2, 3, 4, 5].map(|party| questions.open(at(party), 7)), [Some(1), Some(2), Some(3), None]);
        assert!(questions.close(9).is_none());
        let closed = questions.close(2).expect("open");
        assert_eq!((closed.asker, closed.id), (at(3), 7));
        assert!(questions.close(2).is_none(), "it is answered once");
        assert_eq!(questions.open(at(1), 8), None);
        assert_eq!(questions.open(at(5), 8), Some(4));
    }
}
