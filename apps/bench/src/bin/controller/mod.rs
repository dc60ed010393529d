//! What asks the core for VMs in the monitor's place. They run the guest `bench`.

use bench::hex;
use component::abi::claim::Claim;
use component::abi::control::ControlRequest;
use component::abi::message::Message;
use component::abi::request_page::Piece;
use component::abi::service::Service;
use component::abi::share::Share;
use component::abi::tenant::Tenant;
use component::abi::vm::ImageId;
use component::ring::SharedMemory;
use component::{Component, Inbox, Outbox, now, wait};

/// Between the decision and the request: time enough to write the boot arguments.
const LEAD_TICKS: u64 = 50_000;
/// The image `bench` is the only one in the manifest that this is booted with.
const IMAGE: ImageId = ImageId::new(0);
/// Parts of a second that a VM which is measured has for saying its line and ending.
const ENDS_PER_SECOND: u64 = 25;
/// Boot arguments of a guest that says what has passed since the time that follows.
const MEASURED: &[u8] = b"bench=vm_create t0=";

/// The monitor's rings to the core and from it.
pub struct Controller {
    requests: Outbox,
    replies: Inbox,
    page: SharedMemory,
    tsc_hz: u64,
}

impl Controller {
    /// Takes the monitor's rings, and waits until the machine is quiet.
    pub fn new(component: &Component) -> Self {
        let tsc_hz = component.info().tsc_hz;
        let (replies, requests) = component.service(Service::Control);
        wait(0, now() + tsc_hz / 2, 0);
        Controller { requests, replies, page: component.request_page(), tsc_hz }
    }

    /// Creates `count` VMs, one after the other, that say how long their creation took, and end.
    pub fn measure(&mut self, count: usize) {
        for _ in 0..count {
            let asked = now() + LEAD_TICKS;
            let args = self.lay(&[MEASURED, &hex(asked)]);
            while now() < asked {}
            self.create(args, ENDS_PER_SECOND);
        }
    }

    /// Puts boot arguments into the request page.
    pub fn lay(&self, texts: &[&[u8]]) -> Piece {
        let mut end = 0;
        for text in texts {
            // A few dozen bytes of a page.
            let _ = self.page.write(end, text);
            end += text.len();
        }
        Piece { offset: 0, len: u16::try_from(end).unwrap_or(0) }
    }

    /// Creates a VM, and leaves a part of a second to it.
    pub fn create(&mut self, args: Piece, per_second: u64) {
        let (slot, ipv4, share, claim, tenant) = (None, 0, Share::UNSAID, Claim::UNSAID, Tenant::UNSAID);
        let request = Message::from(ControlRequest::Create {
            image: IMAGE,
            slot,
            ipv4,
            args,
            share,
            claim,
            tenant,
            disk: abi::request_page::Piece::EMPTY,
        });
        if self.requests.ring.push(&request).is_err() {
            component::log::error!("bench: the ring to the core does not take a request");
        }
        // The answer must not wake this component before the guest has run: nobody waits for it.
        wait(0, now() + self.tsc_hz / per_second, self.requests.doorbell);
        self.replies.drain(|_| ());
        // And the bell that was rung for it is heard, or the core takes this component for one that sleeps for ever.
        wait(self.replies.doorbell, 0, 0);
    }
}
