//! Questions of VMs that control the machine to the striper ([`abi::disk`]). The core passes them on and their answers back, and knows nothing of
//! disks but whose they are by the manifest: what VMs that control the machine keep on theirs, keys among it, others do not get ([`Images::keep`]). A VM has one that is not answered yet, so that the answer finds room ([`super::callers`]); if the striper is started anew meanwhile, the
//! VM hears that.

use super::disk_questions::Question;
use crate::board::Board;
use crate::component::{EndpointId, Party};
use crate::kernel::{Cpu, Kernel};
use crate::vm::Images;
use abi::control::{ControlReply, status};
use abi::disk::{DiskReply, DiskRequest};
use abi::message::{BadMessage, Malformed, Message};
use abi::service::Service;
use abi::vm::ImageId;
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
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
        let Some(Party::Vm(vm)) = self.cpu.endpoints.get(from).map(|endpoint| endpoint.party) else {
            return Err(BadMessage { kind: message.kind, what: Malformed::Kind });
        };
        let Self { vms, cpu, .. } = self;
        let refused = |status| Ok(Some(ControlReply::Done { status, value: 0 }));
        let striper = cpu.endpoints.first(Service::Disk);
        if cpu.endpoints.rank(striper).is_none() {
            return refused(status::NO_DISKS);
        }
        if !vms.image_of(vm.slot).is_some_and(|image| may_ask(&cpu.images, image, request)) {
            return refused(status::NOT_ALLOWED);
        }
        if !cpu.has_room(striper) {
            return refused(status::BUSY);
        }
        let Some(number) = cpu.disk_questions.open(from, message.id) else { return refused(status::BUSY) };
        cpu.tell(striper, &Message { id: number, ..request.into() }, true);
        Ok(None)
    }
}

/// Whether a VM of this image, which controls the machine, may ask the striper for that.
fn may_ask(images: &Images, image: ImageId, request: DiskRequest) -> bool {
    match request {
        DiskRequest::Read { name, .. } => {
            images.get(image).is_some_and(|image| image.entry.reads_disks()) && !images.keep(name)
        }
        // A copy has another name, and what takes the place of one that is removed is another one.
        DiskRequest::Snapshot { name, .. } | DiskRequest::Remove { name } => !images.keep(name),
        DiskRequest::Disk { .. }
        | DiskRequest::Set { .. }
        | DiskRequest::Problem { .. }
        | DiskRequest::Entry { .. }
        | DiskRequest::Scrub { .. }
        | DiskRequest::Create { .. }
        | DiskRequest::DiskLoad { .. }
        | DiskRequest::VmLoad { .. } => true,
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
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
