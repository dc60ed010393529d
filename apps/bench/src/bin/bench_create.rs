//! Measures what creating a VM costs, from the request of its controller to the first instruction of the guest. Stands in
//! the place of the monitor. The guest is `bench` with `bench=vm_create`, which is told the time of the request and says
//! what has passed since.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bench::hex;
use component::abi::control::{CREATE_ARGS_BYTES, ControlRequest};
use component::abi::message::Message;
use component::abi::share::Share;
use component::abi::vm::ImageId;
use component::{Component, now, wait};

component::main!(main);

/// VMs that are created; the first ones bring what all share into memory.
const VMS: usize = 20;
/// Between the decision and the request: time enough to write the boot arguments.
const LEAD_TICKS: u64 = 50_000;
/// The image `bench` is the only one in the manifest that this is booted with.
const IMAGE: ImageId = ImageId::new(0);
/// Parts of a second that each VM has for saying its line and ending.
const VMS_PER_SECOND: u64 = 25;

fn main(component: Component) -> ! {
    let mut requests = component.outbox("monitor-core");
    let mut replies = component.inbox("core-monitor");
    let pause = component.info().tsc_hz / VMS_PER_SECOND;
    // The machine is quiet by then.
    wait(0, now() + 10 * pause, 0);
    for _ in 0..VMS {
        let asked = now() + LEAD_TICKS;
        let mut args = [0; CREATE_ARGS_BYTES];
        let words = b"bench=vm_create t0=";
        args[..words.len()].copy_from_slice(words);
        args[words.len()..words.len() + 16].copy_from_slice(&hex(asked));
        while now() < asked {}
        let request = Message::from(ControlRequest::Create { image: IMAGE, args, share: Share::UNSAID });
        if requests.ring.push(&request).is_err() {
            component::log::error!("bench: vm_create: the ring to the core does not take a request");
        }
        // The answer must not wake this component before the guest has run: nobody waits for it.
        wait(0, now() + pause, requests.doorbell);
        replies.drain(|_| ());
    }
    component::log::info!("bench: vm_create done");
    loop {
        wait(0, u64::MAX, 0);
    }
}
