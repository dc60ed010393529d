//! Measures what creating a VM costs beside few others and beside many. Stands in the place of the monitor. The guest is `bench`
//! with `bench=vm_create` for those that are measured, which say what has passed since they were asked for, and end; and with
//! `bench=stay` for those that stay and idle.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bench::hex;
use component::abi::control::{CREATE_ARGS_BYTES, ControlRequest};
use component::abi::message::Message;
use component::abi::share::Share;
use component::abi::vm::ImageId;
use component::{Component, Inbox, Outbox, now, wait};

component::main!(main);

/// VMs that live when the first ones are measured, and when the others are.
const FEW: usize = 9;
const MANY: usize = 9_999;
/// VMs that are measured each time; the first ones bring what all share into memory.
const MEASURED: usize = 12;
/// Between the decision and the request: time enough to write the boot arguments.
const LEAD_TICKS: u64 = 50_000;
/// The image `bench` is the only one in the manifest that this is booted with.
const IMAGE: ImageId = ImageId::new(0);
/// Parts of a second that a VM has for saying its line and ending, and for coming to its idle.
const ENDS_PER_SECOND: u64 = 25;
const STAYS_PER_SECOND: u64 = 500;

/// The rings to the core and from it, and the ticks of a second.
struct Controller {
    requests: Outbox,
    replies: Inbox,
    tsc_hz: u64,
}

impl Controller {
    fn create(&mut self, args: [u8; CREATE_ARGS_BYTES], per_second: u64) {
        let request = Message::from(ControlRequest::Create { image: IMAGE, args, share: Share::UNSAID });
        if self.requests.ring.push(&request).is_err() {
            component::log::error!("bench: crowd: the ring to the core does not take a request");
        }
        // The answer must not wake this component before the guest has run: nobody waits for it.
        wait(0, now() + self.tsc_hz / per_second, self.requests.doorbell);
        self.replies.drain(|_| ());
    }

    fn stay(&mut self, count: usize) {
        let mut args = [0; CREATE_ARGS_BYTES];
        let words = b"bench=stay";
        args[..words.len()].copy_from_slice(words);
        for _ in 0..count {
            self.create(args, STAYS_PER_SECOND);
        }
    }

    fn measure(&mut self) {
        for _ in 0..MEASURED {
            let asked = now() + LEAD_TICKS;
            let mut args = [0; CREATE_ARGS_BYTES];
            let words = b"bench=vm_create t0=";
            args[..words.len()].copy_from_slice(words);
            args[words.len()..words.len() + 16].copy_from_slice(&hex(asked));
            while now() < asked {}
            self.create(args, ENDS_PER_SECOND);
        }
    }
}

fn main(component: Component) -> ! {
    let tsc_hz = component.info().tsc_hz;
    let mut controller =
        Controller { requests: component.outbox("monitor-core"), replies: component.inbox("core-monitor"), tsc_hz };
    // The machine is quiet by then.
    wait(0, now() + tsc_hz / 2, 0);
    controller.stay(FEW);
    controller.measure();
    component::log::info!("bench: crowd: beside {FEW}");
    controller.stay(MANY - FEW);
    controller.measure();
    component::log::info!("bench: crowd: beside {MANY}");
    loop {
        wait(0, u64::MAX, 0);
    }
}
