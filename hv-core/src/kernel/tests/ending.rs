//! How VMs end, and that their slots and frames are there for the next at once.

use super::component::{Due, Misdeed};
use super::machine::{HZ, IMAGE_PAGE, Machine, WITH_NIC, WITHOUT_NIC};
use crate::component::{Death, Run};
use crate::kernel::{BURIAL_BATCH, Kernel};
use crate::log::capture::{heard_of, listen};
use crate::vm::{Devices, End, NEVER, Queue, State};
use abi::end::EndReason;
use abi::guest::{CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, ConsoleSlot};
use abi::pager::Access;
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use abi::service::Service;
use abi::vm::{ImageId, Slot, VmId};
use backend::fake::Step;
use ring::Producer;

/// What [`vm_in`] and [`ends`] call a VM that waits for admission.
const WAITING: &str = "Waiting";
const DESTROYED: End = End::new(EndReason::Destroyed, 5);

impl<const TIMER: bool> Machine<TIMER> {
    /// End a VM as from outside.
    pub fn end(&mut self, id: VmId) {
        let Kernel { vms, cpu, .. } = &mut self.kernel;
        match vms.by_id(id) {
            Some(vm) => cpu.end(vm, DESTROYED),
            None => cpu.end_waiting(vms, id, DESTROYED),
        }
    }

    /// A VM that was admitted and ends at once.
    fn create_and_end(&mut self) {
        let vm = self.create(WITHOUT_NIC);
        self.admit(vm);
        self.end(vm);
        // Those who hear of it take note.
        for service in [Service::Plan, Service::Pager] {
            let (rank, party) = (self.rank(service), self.kernel.cpu.endpoints.first(service));
            while self.kernel.cpu.endpoints.get_mut(party).expect("there is one").in_flight() > 16 {
                self.kernel.run_component(rank);
            }
        }
    }

    /// Go on where the machine has slept for good: somebody outside has woken it.
    pub fn settle_again(&mut self) {
        self.hardware.borrow_mut().asleep = false;
        self.settle(4000);
    }

    fn shares(&mut self, id: VmId) -> bool {
        self.kernel.vms.by_id(id).is_some_and(|vm| vm.life.shared().contains(Devices::NIC))
    }

    pub fn queued(&self, queue: Queue) -> Vec<u32> {
        self.kernel.vms.slots().filter(|&slot| self.kernel.cpu.queues.contains(queue, slot)).map(Slot::number).collect()
    }
}

/// Bring a VM of this image into this state. The machine has not moved since; its frames before.
fn vm_in(image: ImageId, wanted: &str) -> (Machine<true>, VmId, u64) {
    let mut machine = Machine::new(2048);
    machine.settle(1000);
    if image == WITH_NIC {
        // The window's tables stay; they are there before anything is counted.
        let first = machine.create(image);
        machine.settle_again();
        machine.end(first);
        machine.settle_again();
    }
    let free = machine.kernel.cpu.frames.free_frames();
    machine.guests.borrow_mut().hostile = 1;
    let step = match wanted {
        "Ready" => Some(Step::Compute(50_000)),
        "Fault" => Some(Step::Touch { page: IMAGE_PAGE, access: Access::Execute }),
        _ => None,
    };
    machine.guests.borrow_mut().steps.extend(step);
    let vm = machine.create(image);
    for _ in 0..2000 {
        let state = format!("{:?}", machine.state(vm));
        if state.starts_with(&format!("Some({wanted}")) || (wanted == WAITING && machine.waits(vm)) {
            return (machine, vm, free);
        }
        machine.step();
    }
    panic!("it never comes to be {wanted}");
}

fn ends(image: ImageId, wanted: &str) {
    let (mut machine, vm, free) = vm_in(image, wanted);
    let shares = image == WITH_NIC && wanted != WAITING;
    assert_eq!(machine.shares(vm), shares);
    listen();
    machine.end(vm);
    let said = heard_of(&format!("core: {vm} ended: destroyed (detail 0x5, rip 0x"));
    assert_eq!(said.len(), 1, "{said:?}");
    // One that waits is gone at once.
    assert_eq!(machine.state(vm), (wanted != WAITING).then_some(State::Ending));
    assert!(!machine.waits(vm));
    assert_eq!((machine.queued(Queue::Ready), machine.queued(Queue::Waiting)), (vec![], vec![]));
    // With a NIC it waits for the demultiplexer, and not for ever; without it is buried at once.
    assert_eq!(machine.queued(Queue::Ended), if shares || wanted == WAITING { vec![] } else { vec![0] });
    assert_eq!(machine.deadline_of(Slot::new(0)), NEVER);
    assert!(machine.kernel.cpu.plan.turn.is_none_or(|turn| turn.vm != vm));
    machine.audit_lives();
    machine.audit_frames();
    machine.settle_again();
    machine.audit();
    assert_eq!((machine.vms(), machine.kernel.cpu.frames.free_frames()), (vec![], free));
    // Its slot is the next one's.
    let next = machine.create(image);
    assert_eq!(next, VmId::new(0, vm.generation + 1));
    machine.settle_again();
    machine.audit();
    assert_eq!((machine.state(vm), machine.state(next)), (None, Some(State::Idle { until: u64::MAX })));
}

#[test]
fn a_waiting_vm_ends_and_is_gone() {
    ends(WITHOUT_NIC, WAITING);
    ends(WITH_NIC, WAITING);
}

#[test]
fn a_ready_vm_ends_and_is_gone() {
    ends(WITHOUT_NIC, "Ready");
    ends(WITH_NIC, "Ready");
}

#[test]
fn an_idle_vm_ends_and_is_gone() {
    ends(WITHOUT_NIC, "Idle");
    ends(WITH_NIC, "Idle");
}

#[test]
fn a_vm_that_waits_for_a_page_ends_and_is_gone() {
    ends(WITHOUT_NIC, "Fault");
    ends(WITH_NIC, "Fault");
}

#[test]
fn a_vm_ends_once() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    listen();
    machine.end(vm);
    let deadline = machine.deadline_of(Slot::new(0));
    machine.end(vm);
    assert_eq!((machine.state(vm), machine.shares(vm)), (Some(State::Ending), true));
    assert_eq!(machine.deadline_of(Slot::new(0)), deadline);
    assert_eq!(heard_of("ended").len(), 1);
    machine.settle_again();
    machine.audit();
    assert!(machine.vms().is_empty());
}

#[test]
fn components_forget_a_vm_that_has_ended() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    // The pager is not woken for what it need not act on at once.
    let knows = |machine: &mut Machine<true>| {
        let rank = machine.rank(Service::Pager);
        let bit = machine.kernel.cpu.components.list[rank].bells;
        machine.kernel.cpu.notify(rank, bit);
        machine.settle_again();
        let hardware = machine.hardware.borrow();
        let at = |service| &hardware.components[machine.rank(service)];
        [at(Service::Net).net().attached.contains_key(&vm), at(Service::Pager).pager().vms.contains_key(&vm)]
    };
    assert_eq!(knows(&mut machine), [true, true]);
    machine.end(vm);
    assert_eq!(knows(&mut machine), [false, false]);
    machine.audit();
}

#[test]
fn a_demultiplexer_that_does_not_let_go_is_killed_after_a_second() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    let rank = machine.rank(Service::Net);
    machine.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Sleep });
    listen();
    let before = machine.wires.now();
    machine.end(vm);
    assert_eq!(machine.deadline_of(vm.slot), NEVER);
    // Until then nobody is blamed, and the VM's frames are not touched.
    while machine.wires.now() < before + HZ {
        let run = machine.kernel.cpu.components.list[rank].run;
        assert!(matches!(run, Run::Ready | Run::Waiting { .. }), "{run:?}");
        assert!(machine.shares(vm));
        machine.audit_frames();
        machine.step();
    }
    machine.settle_again();
    let said = heard_of("let go");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("core: component netmux killed: it does not let go of vm0.1, which has ended"),
        "{said:?}"
    );
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2);
    assert!(machine.vms().is_empty());
    machine.audit();
}

#[test]
fn time_that_is_stolen_while_the_demultiplexer_should_let_go_counts_once() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    let rank = machine.rank(Service::Net);
    machine.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Sleep });
    machine.end(vm);
    machine.hardware.borrow_mut().asleep = false;
    let mut jumps = 0;
    while !matches!(machine.kernel.cpu.components.list[rank].run, Run::Condemned(_)) {
        machine.wires.spend(HZ / 2);
        jumps += 1;
        assert!(jumps < 100, "it is never found out");
        machine.kernel.step();
    }
    assert_eq!(machine.kernel.cpu.components.list[rank].run, Run::Condemned(Death::DetachTimeout(vm)));
    assert!(jumps > 10, "{jumps}");
}

#[test]
fn many_vms_are_buried_a_few_at_a_time() {
    let mut machine = Machine::<true>::new(2048);
    let free = machine.kernel.cpu.frames.free_frames();
    for _ in 0..BURIAL_BATCH + 3 {
        machine.create_and_end();
    }
    assert_eq!(machine.queued(Queue::Ended).len(), 35);
    assert!(machine.kernel.cpu.attention.take_ended());
    machine.kernel.bury();
    assert_eq!((machine.queued(Queue::Ended), machine.kernel.vms.living()), (vec![32, 33, 34], 3));
    assert!(machine.kernel.cpu.attention.take_ended());
    machine.kernel.bury();
    assert_eq!((machine.queued(Queue::Ended), machine.kernel.vms.living()), (vec![], 0));
    assert!(!machine.kernel.cpu.attention.take_ended());
    assert_eq!(machine.kernel.cpu.frames.free_frames(), free);
}

#[test]
fn a_batch_that_is_the_last_leaves_nothing_to_do() {
    let mut machine = Machine::<true>::new(2048);
    for _ in 0..BURIAL_BATCH {
        machine.create_and_end();
    }
    assert!(machine.kernel.cpu.attention.take_ended());
    machine.kernel.bury();
    assert_eq!(machine.kernel.vms.living(), 0);
    assert!(!machine.kernel.cpu.attention.take_ended());
}

#[test]
fn an_empty_slot_is_buried_without_effect() {
    let mut machine = Machine::<true>::new(1024);
    let before = machine.frames_by_owner();
    machine.kernel.reclaim(Slot::new(0));
    machine.kernel.reclaim(Slot::new(u32::MAX));
    assert_eq!((machine.frames_by_owner(), machine.kernel.vms.living()), (before, 0));
}

#[test]
fn the_slots_of_a_full_machine_are_there_again_when_all_have_ended() {
    let mut machine = Machine::<true>::new(1024);
    let slots = machine.kernel.vms.capacity();
    for round in 1..4 {
        let vms: Vec<_> = (0..slots).map(|_| machine.create(WITHOUT_NIC)).collect();
        assert!(vms.iter().all(|vm| vm.generation == round));
        for vm in vms {
            machine.end(vm);
            machine.kernel.bury();
        }
        assert_eq!(machine.kernel.vms.living(), 0);
    }
}

#[test]
fn a_guest_that_exits_says_with_which_code() {
    let exit = Step::Hypercall { number: abi::guest::hypercall::EXIT, a: 3, b: 0 };
    listen();
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[exit]);
    let said = heard_of("ended");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("core: vm0.1 ended: exited (detail 0x3, rip 0x"), "{said:?}");
    assert_eq!((machine.state(vm), machine.vms()), (None, vec![]));
}

#[test]
fn guests_that_end_are_not_all_told_of_when_they_are_too_many() {
    let mut machine = Machine::<true>::new(2048);
    listen();
    for _ in 0..130 {
        let vm = machine.create(WITHOUT_NIC);
        machine.end(vm);
        machine.kernel.bury();
    }
    // A hundred at once; twenty more a second.
    assert_eq!(heard_of("ended: destroyed").len(), 100);
    machine.wires.spend(HZ / 20);
    let vm = machine.create(WITHOUT_NIC);
    machine.end(vm);
    let said = heard_of("ended: destroyed");
    assert_eq!(said, ["core: vm0.131 ended: destroyed (detail 0x5, rip 0x0; 30 such lines left out)"]);
}

#[test]
fn what_a_guest_wrote_last_is_logged_before_its_end_is() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let body = machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.body()).expect("it is admitted");
    let page = body.registers.memory();
    let ring = usize::try_from(CONSOLE_RING).expect("small");
    let slots = CONSOLE_SLOTS as usize * SLOT_BYTES;
    let (header, slots) = (page.sub(ring, HEADER_BYTES), page.sub(ring + HEADER_BYTES, slots));
    let mut guest = Producer::attach(&header.expect("inside"), &slots.expect("inside"), CONSOLE_SLOTS).expect("a ring");
    let mut slot = ConsoleSlot { len: 4, more: 0, text: [0; CONSOLE_TEXT_BYTES] };
    slot.text[..4].copy_from_slice("ad\u{e9}".as_bytes());
    guest.stage_words(&zerocopy::transmute!(slot)).expect("room");
    guest.publish();
    listen();
    machine.end(vm);
    let said = heard_of("vm0.1");
    assert_eq!(said[0], "guest: vm0.1: ad??");
    assert!(said[1].starts_with("core: vm0.1 ended: destroyed") && said.len() == 2, "{said:?}");
}
