//! Questions of VMs that control the machine to the striper ([`abi::disk`]). The core passes them on and their answers back, and knows nothing of
//! disks. A VM has one that is not answered yet, so that the answer finds room ([`super::callers`]); if the striper is started anew meanwhile, the
//! VM hears that.

use super::disk_questions::Question;
use crate::board::Board;
use crate::component::{EndpointId, Party};
use crate::kernel::Cpu;
use abi::control::{ControlReply, status};
use abi::disk::{DiskReply, DiskRequest};
use abi::message::{BadMessage, Malformed, Message};
use abi::service::Service;
use backend::Backend;

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
        for Question { asker, id, .. } in self.disk_questions.take() {
            self.tell(asker, &Message { id, ..lost.into() }, true);
        }
    }

    /// The party at this endpoint is gone for good.
    pub(super) fn forget_question(&mut self, gone: EndpointId) {
        self.disk_questions.forget(gone);
    }
}
