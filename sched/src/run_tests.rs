//! The scheduler behind its rings.

use super::*;
use crate::Oddity;
use crate::policy::RoundRobin;
use abi::sched::{Admission, Room, SchedCommand};
use abi::tenant::Tenant;
use abi::vm::{Seat, VmId};
use component::Tables;
use component::ring::{Consumer, Producer, SharedMemory};
use component::test_log::lines;

const QUANTUM: u64 = 5_000;
const SEATS: usize = 16;

/// A scheduler behind its rings, and the core's ends of them.
struct Stage {
    rings: Rings,
    scheduler: Scheduler<RoundRobin>,
    events: Producer<SharedMemory>,
    plan: Consumer<SharedMemory>,
    event_memory: SharedMemory,
}

/// Memory of a ring of 32 slots.
fn memory() -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; (256 + 32 * 64) / 8].into_boxed_slice()))
}

impl Stage {
    /// The core has said hello, and 1,000 frames are free.
    fn new() -> Stage {
        let (event_memory, plan_memory) = (memory(), memory());
        let inbox = Inbox { ring: Consumer::attach_contiguous(&event_memory, 32).expect("good"), doorbell: 0b011 };
        let outbox = Outbox { ring: Producer::attach_contiguous(&plan_memory, 32).expect("good"), doorbell: 0b110 };
        let mut stage = Stage {
            // So slow a time that nothing is earned in a test.
            rings: Rings::new(inbox, outbox, u64::MAX),
            scheduler: Scheduler::new(&mut Tables::on_heap(Scheduler::<RoundRobin>::TABLES, SEATS, SEATS)),
            events: Producer::attach_contiguous(&event_memory, 32).expect("good"),
            plan: Consumer::attach_contiguous(&plan_memory, 32).expect("good"),
            event_memory,
        };
        stage.tell(SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(1_000) });
        stage
    }

    fn tell(&mut self, event: SchedEvent) {
        self.events.push(&Message::from(event)).expect("room");
    }

    fn serve(&mut self) -> u64 {
        self.rings.serve(&mut self.scheduler)
    }

    /// Takes what is planned.
    fn planned(&mut self) -> Vec<SchedCommand> {
        let messages = core::iter::from_fn(|| self.plan.take().expect("good"));
        let commands = messages.map(|message| SchedCommand::try_from(&message).expect("a command")).collect();
        self.plan.release();
        commands
    }
}

fn vm(slot: u32) -> VmId {
    VmId::new(slot, 1)
}

fn ready(slot: u16) -> SchedEvent {
    SchedEvent::Ready { vm: vm(slot.into()), seat: Seat::new(slot), weight: 1 }
}

fn room(frames: u64) -> Room {
    Room { frames, seats: 16 }
}

fn turn(slot: u32) -> SchedCommand {
    SchedCommand::Run { vm: vm(slot), quantum_ticks: QUANTUM }
}

#[test]
fn events_become_a_plan() {
    let mut stage = Stage::new();
    stage.tell(ready(3));
    stage.tell(ready(4));
    stage.tell(SchedEvent::Arrived { vm: vm(5), frames: 100, room: room(900), tenant: Tenant::UNSAID });
    assert_eq!(stage.serve(), u64::MAX, "nothing is left to do");
    assert_eq!(stage.planned(), [SchedCommand::Admit { vm: vm(5) }, turn(3), turn(4)]);
}

#[test]
fn what_the_core_has_not_taken_is_not_planned_again() {
    let mut stage = Stage::new();
    stage.tell(ready(3));
    stage.tell(ready(4));
    stage.serve();
    stage.serve();
    assert_eq!(stage.planned(), [turn(3), turn(4)]);
    stage.serve();
    // How far ahead depends on the time that has passed here.
    assert_eq!(stage.planned().first(), Some(&turn(3)));
}

#[test]
fn a_ring_that_was_reset_is_looked_at_again_at_once() {
    let mut stage = Stage::new();
    component::ring::reset(&stage.event_memory).expect("good");
    assert_eq!(stage.serve(), 0);
    assert_eq!(stage.serve(), u64::MAX);
}

#[test]
fn every_doorbell_wakes_it() {
    assert_eq!(Stage::new().rings.doorbells(), 0b111);
}

#[test]
fn what_makes_no_sense_is_said_ten_times_and_the_rest_is_served() {
    let mut stage = Stage::new();
    assert_eq!(
        lines(|| _ = stage.serve()),
        ["INFO gatekeeper=fifo"],
        "at each start, and nothing else that makes sense is worth a line"
    );
    stage.events.push(&Message::new(0xffff, [])).expect("room");
    stage.tell(SchedEvent::Blocked { vm: vm(3), seat: Seat::new(u16::MAX), ran_ticks: 0, idle: false });
    stage.tell(ready(3));
    let said = lines(|| _ = stage.serve());
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("WARN dropped a message") && said[0].ends_with("; 0 such lines suppressed"),
        "{said:?}"
    );
    assert!(said[1].starts_with(&format!("WARN {}", Oddity::BadVm(vm(3)))), "{said:?}");
    assert_eq!(stage.planned(), [turn(3)]);
    for _ in 0..20 {
        stage.events.push(&Message::new(0xffff, [])).expect("room");
    }
    assert_eq!(lines(|| _ = stage.serve()).len(), 8);
}

#[test]
fn starts_at_the_same_time_have_different_seeds() {
    assert_eq!(seed(0x1234, 0), 0x1234);
    assert_eq!(seed(0x0003_0000_0000_1234, 5), 0x0006_0000_0000_1234);
}
