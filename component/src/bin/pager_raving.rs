//! A pager that answers every event with commands that make no sense, and now and then lets a VM go on without a page.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::Message;
use component::abi::pager::{PagerCommand, PagerEvent, THEN_RESUME};
use component::abi::service::Service;
use component::abi::vm::{ImageId, Seat, VmId};
use component::{Component, now, wait};

component::main!(main);

/// Pages of the VMs in the tests: 16 MiB.
const PAGES: u32 = 4096;
/// Between two answers, in ticks: what cannot be served comes again at once.
const PAUSE_TICKS: u64 = 500_000;

fn main(component: Component) -> ! {
    let (mut events, mut commands) = component.service(Service::Pager);
    component::log::info!("raving, start {}", component.info().incarnation);
    // Until a VM is known, nobody.
    let mut vm = VmId::from_raw(0);
    let mut round = 0;
    loop {
        let empty = events.drain(|message| match PagerEvent::try_from(message) {
            Ok(PagerEvent::VmStarted { vm: started, .. }) => vm = started,
            Ok(PagerEvent::Fault { vm: faulting, .. }) => vm = faulting,
            _ => {}
        });
        for command in nonsense(vm) {
            // Without room, too, it goes on.
            let _ = commands.stage(&command);
        }
        round += 1;
        if round % 4 == 0 {
            let _ = commands.stage(&PagerCommand::Resume { vm }.into());
        }
        commands.publish();
        // A pager that raves without pause takes all the time that VMs and less important components would have.
        wait(0, now().saturating_add(PAUSE_TICKS), 0);
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

/// Everything that the core must refuse or ignore.
fn nonsense(vm: VmId) -> [Message; 20] {
    let gone = VmId { generation: vm.generation.wrapping_add(1), ..vm };
    let nobody = VmId::new(u32::MAX, 1);
    let mut resumed = Message::from(PagerCommand::MapZero { vm, page: PAGES, count: 1 });
    resumed.id = THEN_RESUME;
    [
        // Of no kind, or of the other direction.
        Message::new(0, [u64::MAX; 7]),
        Message::new(u32::MAX, [u64::MAX; 7]),
        PagerEvent::VmStarted { vm, seat: Seat::new(0), image: ImageId::new(0), pages: PAGES, reserve: 14 }.into(),
        // With words that are none.
        Message { words: [u64::MAX; 7], ..PagerCommand::MapZero { vm, page: 0, count: 1 }.into() },
        // VMs that do not exist.
        Message { words: [u64::MAX; 7], ..PagerCommand::Resume { vm }.into() },
        PagerCommand::MapZero { vm: nobody, page: 0, count: 1 }.into(),
        PagerCommand::MapImage { vm: gone, page: 32, count: 1 }.into(),
        PagerCommand::CopyImage { vm: nobody, page: 32 }.into(),
        PagerCommand::Resume { vm: gone }.into(),
        PagerCommand::Refuse { vm: nobody, page: 0 }.into(),
        // Pages beyond the memory, and counts that are too large or wrap.
        resumed,
        PagerCommand::MapZero { vm, page: PAGES - 1, count: 2 }.into(),
        PagerCommand::MapZero { vm, page: u32::MAX, count: 64 }.into(),
        PagerCommand::MapZero { vm, page: 0, count: 65 }.into(),
        PagerCommand::MapZero { vm, page: 1, count: u32::MAX }.into(),
        PagerCommand::MapImage { vm, page: 0, count: 1 }.into(),
        PagerCommand::MapImage { vm, page: u32::MAX, count: u32::MAX }.into(),
        PagerCommand::CopyImage { vm, page: 0 }.into(),
        PagerCommand::CopyImage { vm, page: u32::MAX }.into(),
        // What is there already stays as it is: register page, page tables, NIC page.
        PagerCommand::MapZero { vm, page: 0, count: 4 }.into(),
    ]
}
