//! VMs that control the machine: parties to the control service whose rings lie in their own memory. A VM rings by a hypercall,
//! and the loop, which holds no borrowed state, serves it: a few requests at a time, and only while all answers find room.
//!
//! Whatever the VM writes there it can, at any time. So a request is copied before it is judged; one that is none is answered with
//! an error; and where the indices cannot be, there is nobody to be answered: the VM ends.

use crate::board::Board;
use crate::component::{EndpointId, Party, Told};
use crate::kernel::{Cpu, Kernel};
use crate::memory::CLASSES;
use crate::vm::{End, Vm};
use abi::control::{ControlReply, status};
use abi::end::EndReason;
use abi::guest::pending;
use abi::guest_control::ROOM;
use abi::message::Message;
use backend::Backend;

/// Requests of one VM that are served before others come to their turn.
const BATCH: usize = 4;

// One for each class and one more is the longest answer; the end of a swap and an answer of the striper may come in between.
const _: () = assert!(CLASSES.len() + 3 <= ROOM as usize);

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Serve those that have rung, and wake those that have been answered.
    #[cold]
    pub fn serve_callers(&mut self) {
        for caller in core::mem::take(&mut self.cpu.callers) {
            self.serve_caller(caller);
        }
        for reader in self.cpu.watches.take_news() {
            if let Some(Party::Vm(vm)) = self.cpu.endpoints.get(reader).map(|endpoint| endpoint.party) {
                self.raise(vm, pending::WATCHED);
            }
        }
        for answered in core::mem::take(&mut self.cpu.answered) {
            if let Some(Party::Vm(vm)) = self.cpu.endpoints.get(answered).map(|endpoint| endpoint.party) {
                self.raise(vm, pending::CONTROL);
            }
        }
    }

    fn serve_caller(&mut self, caller: EndpointId) {
        for _ in 0..BATCH {
            // It may have ended itself, and been told so no more.
            let Some(endpoint) = self.cpu.endpoints.get_mut(caller) else { return };
            let request = endpoint.take_if_room(ROOM);
            endpoint.release();
            match request {
                Ok(Some(request)) => {
                    if self.control_request(caller, &request).is_err() {
                        let refusal = ControlReply::Done { status: status::BAD_REQUEST, value: 0 };
                        self.cpu.tell(caller, &Message { id: request.id, ..refusal.into() }, true);
                    }
                }
                // It rings again when it has taken its answers, or has something to ask.
                Ok(None) => return,
                Err(_) => return self.end_liar(caller),
            }
        }
        self.cpu.call_of(caller);
    }

    /// The VM at this endpoint has written nonsense into its rings.
    fn end_liar(&mut self, caller: EndpointId) {
        let Self { vms, cpu, .. } = self;
        let Some(Party::Vm(vm)) = cpu.endpoints.get(caller).map(|endpoint| endpoint.party) else { return };
        if let Some(vm) = vms.by_id(vm) {
            cpu.end(vm, End::new(EndReason::BadControlRing, 0));
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// The VM at this endpoint has something to ask.
    pub fn call_of(&mut self, caller: EndpointId) {
        self.callers.add(caller);
        self.attention.set_callers();
    }

    /// Put an answer into the ring to the VM at this endpoint. There was room for it, so who has none has lied since then,
    /// which its next call finds out; the answer is lost to it.
    #[cold]
    pub fn answer_vm(&mut self, to: EndpointId, message: &Message) {
        let Some(endpoint) = self.endpoints.get_mut(to) else { return };
        if endpoint.tell(message) == Told::Yes {
            self.answered.add(to);
            self.attention.set_callers();
        }
    }

    /// A VM ends, or could not be started: its endpoint is free for another one, and whatever it has asked is forgotten.
    pub fn forget_caller(&mut self, vm: &mut Vm<B>) {
        let gone = core::mem::replace(&mut vm.control, EndpointId::NONE);
        if gone != EndpointId::NONE {
            self.endpoints.remove_guest(gone);
            self.drop_incoming(gone);
            self.forget_asker(gone);
            self.forget_question(gone);
            self.callers.remove(gone);
            self.answered.remove(gone);
        }
    }
}
