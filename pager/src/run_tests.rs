//! A policy behind the pager's rings.

use super::*;
use crate::order::{Fifo, Lru, Nobody, Sieve};
use crate::pages::Whole;
use crate::policy::demand::{DEFAULT_CLUSTER, Demand};
use abi::pager::Access;
use abi::vm::{ImageId, Seat, VmId};
use component::Tables;
use component::ring::{Consumer, Producer, SharedMemory};
use component::test_log::lines;

/// Gives zeros for every fault, lets VMs go on that are there already, and knows no VM that ends.
struct Zeros;

impl Policy for Zeros {
    const NAME: &'static str = "zeros";
    const SEAT_BYTES: u32 = 0;

    fn new(_: &mut Tables) -> Self {
        Zeros
    }

    fn handle(&mut self, event: PagerEvent) -> Result<Option<PagerCommand>, Oddity> {
        match event {
            PagerEvent::Fault { vm, present: true, .. } => Ok(Some(PagerCommand::Resume { vm })),
            PagerEvent::Fault { vm, page, .. } => Ok(Some(PagerCommand::MapZero { vm, page, count: 1 })),
            PagerEvent::VmEnded { vm, .. } => Err(Oddity::UnknownVm(vm)),
            _ => Ok(None),
        }
    }
}

/// Since when the VM in each seat idles.
const IDLE: [u64; 16] = [0, 0, 300, 100, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Ticks a second, of which few pass in a test.
const HZ: u64 = 1 << 50;

fn pager() -> Pager<Zeros, Lru, Whole> {
    let mut tables = Tables::on_heap(tables::<Zeros, Lru, Whole>(), 0, IDLE.len());
    let victims = Victims::new(&mut tables, HZ);
    let idles = IdleTimes::from(SharedMemory::from_static(Box::leak(Box::new(IDLE))));
    // So slow a time that nothing is earned in a test.
    Pager { policy: Zeros::new(&mut tables), pages: Whole, victims, idles, limit: Complaints::new(u64::MAX) }
}

/// The rings' ends of the pager and of the core.
struct Stage {
    events: Inbox,
    commands: Outbox,
    pager: Pager<Zeros, Lru, Whole>,
    core_events: Producer<SharedMemory>,
    core_commands: Consumer<SharedMemory>,
    event_memory: SharedMemory,
}

/// Memory of a ring of 32 slots.
fn memory() -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; (256 + 32 * 64) / 8].into_boxed_slice()))
}

impl Stage {
    fn new() -> Stage {
        let (event_memory, command_memory) = (memory(), memory());
        Stage {
            events: Inbox { ring: Consumer::attach_contiguous(&event_memory, 32).expect("good"), doorbell: 1 },
            commands: Outbox { ring: Producer::attach_contiguous(&command_memory, 32).expect("good"), doorbell: 0 },
            pager: pager(),
            core_events: Producer::attach_contiguous(&event_memory, 32).expect("good"),
            core_commands: Consumer::attach_contiguous(&command_memory, 32).expect("good"),
            event_memory,
        }
    }

    fn tell(&mut self, event: PagerEvent) {
        self.core_events.push(&Message::from(event)).expect("room");
    }

    fn serve(&mut self) -> bool {
        self.pager.serve(&mut self.events, &mut self.commands)
    }

    fn choose(&mut self) -> u64 {
        self.pager.choose(&mut self.commands)
    }

    /// The commands that the core sees, each with its id.
    fn commands(&mut self) -> Vec<(PagerCommand, u32)> {
        let messages = core::iter::from_fn(|| self.core_commands.take().expect("good"));
        let commands =
            messages.map(|message| (PagerCommand::try_from(&message).expect("a command"), message.id)).collect();
        self.core_commands.release();
        commands
    }
}

fn vm(slot: u32) -> VmId {
    VmId::new(slot, 1)
}

fn fault(slot: u16, present: bool) -> PagerEvent {
    PagerEvent::Fault { vm: vm(slot.into()), seat: Seat::new(slot), page: 7, access: Access::Read, present }
}

#[test]
fn the_note_asks_for_what_the_policy_takes() {
    fn fits<O: Order>() {
        let bytes = tables::<Demand, O, Whole>();
        assert!(bytes.per_slot == 0 && bytes.per_seat > Demand::<DEFAULT_CLUSTER>::SEAT_BYTES);
        let mut tables = Tables::on_heap(bytes, 0, 100);
        Demand::<DEFAULT_CLUSTER>::new(&mut tables);
        Victims::<O>::new(&mut tables, 1);
        let bytes = super::tables::<Demand, O, crate::pages::Single<crate::pages::Clock>>();
        let mut tables = Tables::on_heap(bytes, 0, 100);
        Demand::<DEFAULT_CLUSTER>::new(&mut tables);
        Victims::<O>::new(&mut tables, 1);
        <crate::pages::Single<crate::pages::Clock> as Choice>::new(&mut tables, 1);
    }
    fits::<Nobody>();
    fits::<Fifo>();
    fits::<Lru>();
    fits::<Sieve>();
}

#[test]
fn every_fault_is_answered_and_who_gets_a_page_goes_on() {
    let mut stage = Stage::new();
    assert!(stage.serve(), "nothing is left to do");
    stage.tell(fault(3, false));
    stage.tell(PagerEvent::Hello { frames: 10, free: 10 });
    stage.tell(fault(4, true));
    assert_eq!(lines(|| _ = stage.serve()), [""; 0], "what makes sense is not worth a line");
    let map = PagerCommand::MapZero { vm: vm(3), page: 7, count: 1 };
    assert_eq!(stage.commands(), [(map, THEN_RESUME), (PagerCommand::Resume { vm: vm(4) }, 0)]);
}

#[test]
fn a_ring_that_was_reset_is_looked_at_again_at_once() {
    let mut stage = Stage::new();
    component::ring::reset(&stage.event_memory).expect("good");
    assert!(!stage.serve());
    assert!(stage.serve());
}

#[test]
fn what_makes_no_sense_is_said_ten_times_and_the_rest_is_served() {
    let mut stage = Stage::new();
    stage.core_events.push(&Message::new(0xffff, [])).expect("room");
    stage.tell(PagerEvent::VmEnded { vm: vm(9), seat: Seat::new(9) });
    stage.tell(fault(4, true));
    let said = lines(|| _ = stage.serve());
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("WARN dropped a message") && said[0].ends_with("; 0 such lines suppressed"),
        "{said:?}"
    );
    assert!(said[1].starts_with("WARN dropped an event: ") && said[1].contains("is not alive"), "{said:?}");
    assert_eq!(stage.commands(), [(PagerCommand::Resume { vm: vm(4) }, 0)]);
    for _ in 0..20 {
        stage.core_events.push(&Message::new(0xffff, [])).expect("room");
    }
    assert_eq!(lines(|| _ = stage.serve()).len(), 8);
}

#[test]
fn who_was_heard_of_first_is_asked_to_go_and_then_it_is_looked_again_in_time() {
    let mut stage = Stage::new();
    assert_eq!(stage.choose(), u64::MAX, "nobody waits for room");
    stage.tell(PagerEvent::Hello { frames: 10, free: 10 });
    for slot in [4, 3, 2, 5] {
        let (vm, seat) = (vm(slot.into()), Seat::new(slot));
        stage.tell(PagerEvent::VmStarted { vm, seat, image: ImageId::new(0), pages: 100, reserve: 14 });
    }
    stage.tell(PagerEvent::Room { frames: 20, seats: 0 });
    stage.serve();
    assert_eq!(lines(|| assert_eq!(stage.choose(), u64::MAX, "two make enough room")), [""; 0]);
    let out = |slot| (PagerCommand::Out { vm: vm(slot) }, 0);
    assert_eq!(stage.commands(), [out(4), out(3)]);
    // The third one goes as well, and the fourth one works.
    stage.tell(PagerEvent::Room { frames: 20, seats: 0 });
    stage.serve();
    let before = now();
    let until = stage.choose();
    assert!((before..=now()).contains(&(until - HZ / 100)), "in a hundredth of a second");
    assert_eq!(stage.commands(), [out(2)]);
}

/// Asks the core so often.
struct Asks(u32);

impl Choice for Asks {
    const NAME: Option<&'static str> = None;
    const SEAT_BYTES: u32 = 0;

    fn new(_: &mut Tables, _: u64) -> Self {
        Asks(0)
    }

    fn hear(&mut self, _: &PagerEvent, _: u64) -> bool {
        true
    }

    fn gave(&mut self, _: Seat, _: &PagerCommand) {}

    fn next(&mut self, _: u64) -> Option<PagerCommand> {
        self.0 = self.0.checked_sub(1)?;
        Some(PagerCommand::Look { vm: vm(1), page: 0, pages: 1 })
    }

    fn load_control(&mut self) -> Option<u64> {
        None
    }

    fn due(&self) -> u64 {
        5
    }
}

#[test]
fn what_fits_is_not_complained_about() {
    let Pager { policy, victims, idles, limit, .. } = pager();
    let mut pager = Pager { policy, pages: Asks(32), victims, idles, limit };
    let mut commands = Outbox { ring: Producer::attach_contiguous(&memory(), 32).expect("good"), doorbell: 0 };
    assert_eq!(lines(|| assert_eq!(pager.choose(&mut commands), 5)), [""; 0]);
}
