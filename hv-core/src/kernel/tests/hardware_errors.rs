//! Hardware that fails: what is corrected is said, what one VM loses ends that VM, and everything else stops the machine.

use super::guest::FIRST;
use super::lines;
use super::machine::{IMAGE_PAGE, Machine, WITH_NIC, WITHOUT_NIC};
use crate::board::vectors;
use crate::memory::{Owner, OwnerClass, PhysAddr};
use crate::trap::HardwareError;
use crate::vm::State;
use abi::pager::Access;
use backend::fake::Step;

/// Uncorrected, with a physical address that means a page; corrected, with the same.
const LOST: u64 = 0xbd00_0000_0000_00c0;
const MENDED: u64 = 0x9c00_0000_0000_00c0;
const PAGE_MISC: u64 = 0x8c;
/// The data was used; the processor's context is corrupt.
const USED: u64 = 1 << 55;
const CORRUPT: u64 = 1 << 57;

impl<const TIMER: bool> Machine<TIMER> {
    /// A bank reports an error in a frame, and the core looks, because a machine check interrupted the core or a component.
    fn fails(&mut self, status: u64, frame: PhysAddr) {
        self.note(status, frame);
        self.hardware.borrow_mut().machine_checks += 1;
        self.look();
    }

    fn note(&mut self, status: u64, frame: PhysAddr) {
        let error = HardwareError { bank: 4, status, address: frame.as_u64() + 0x234, misc: PAGE_MISC };
        self.hardware.borrow_mut().errors.push(error).expect("room");
    }

    /// Deadlines are looked at.
    fn look(&mut self) {
        self.kernel.cpu.interrupt(vectors::TIMER);
        self.kernel.attend();
    }

    /// A frame that this VM owns.
    fn frame_of(&mut self, slot: u32) -> PhysAddr {
        self.first_of(Owner::VmMemory(slot))
    }

    fn first_of(&mut self, owner: Owner) -> PhysAddr {
        let frames = &self.kernel.cpu.frames;
        let all = (0..frames.len() as u64).map(PhysAddr::from_frame);
        all.into_iter().find(|&frame| frames.owner_of(frame).0 == owner).expect("somebody owns one")
    }

    fn damaged(&self) -> u64 {
        self.kernel.cpu.frames.count_of(OwnerClass::Damaged)
    }
}

#[test]
fn what_was_corrected_is_said_and_nobody_ends() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let frame = machine.frame_of(0);
    lines::listen();
    for _ in 0..20 {
        machine.fails(MENDED, frame);
    }
    let said =
        lines::heard("WARN core: the hardware has corrected an error (bank 4, status 0x9c000000000000c0, address 0x");
    assert_eq!(said.len(), 10, "not more than the log can bear");
    assert!(said[9].contains("; 10 since boot: "), "{}", said[9]);
    assert!(machine.state(vm).is_some());
    assert_eq!(machine.damaged(), 0);
    machine.audit();
}

#[test]
fn memory_that_one_vm_loses_ends_that_vm_and_is_never_used_again() {
    let mut machine = Machine::<true>::new(4096);
    let [first, second] = [machine.create(WITH_NIC), machine.create(WITH_NIC)];
    machine.settle(1000);
    let frame = machine.frame_of(1);
    lines::listen();
    machine.fails(LOST, frame);
    machine.settle_again();
    let end = format!("vm1.1 ended: hardware error (its memory is damaged) (detail {:#x}", frame.as_u64() + 0x234);
    assert_eq!(lines::heard(&end).len(), 1);
    assert_eq!((machine.state(first).is_some(), machine.state(second)), (true, None));
    machine.audit();
    assert_eq!((machine.damaged(), machine.kernel.cpu.frames.owner_of(frame).0), (1, Owner::Damaged));
    while let Some(given) = machine.kernel.cpu.frames.alloc(Owner::Core, 0) {
        assert_ne!(given, frame);
    }
}

#[test]
fn free_memory_that_fails_is_never_used_and_nobody_ends() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let frame = machine.first_of(Owner::Free);
    lines::listen();
    machine.fails(LOST, frame);
    machine.fails(LOST, frame);
    assert_eq!(lines::heard("ERROR core: hardware error in memory that nobody uses: bank 4, status 0xbd").len(), 2);
    assert!(machine.state(vm).is_some());
    machine.audit();
    assert_eq!(machine.damaged(), 1);
    while let Some(given) = machine.kernel.cpu.frames.alloc(Owner::Core, 0) {
        assert_ne!(given, frame);
    }
}

#[test]
fn a_guest_that_runs_into_it_is_not_entered_again() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let frame = machine.frame_of(0);
    machine.note(LOST | USED, frame);
    machine.go_on(&[Step::MachineCheck, Step::Touch { page: IMAGE_PAGE + 2, access: Access::Write }]);
    machine.settle(1000);
    assert_eq!(machine.state(vm), None);
    assert_eq!(machine.guests.borrow().steps.len(), 1, "its next step was not taken");
    assert_eq!(machine.damaged(), 1);
    machine.audit();
}

#[test]
fn a_guest_goes_on_after_a_machine_check_that_was_not_about_it() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.go_on(&[Step::MachineCheck, Step::Nmi, Step::MachineCheck]);
    machine.settle(1000);
    assert!(matches!(machine.state(vm), Some(State::Idle { .. })));
    assert_eq!(machine.guests.borrow().steps.len(), 0);
    machine.audit();
}

#[test]
fn a_guest_whose_place_is_lost_ends() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    lines::listen();
    machine.hardware.borrow_mut().lost_its_place = true;
    machine.go_on(&[Step::MachineCheck]);
    machine.settle(1000);
    assert_eq!(machine.state(vm), None);
    assert_eq!(lines::heard("vm0.1 ended: hardware error (its memory is damaged) (detail 0x0").len(), 1);
}

/// What the machine says when it stops.
fn last_words(status: u64, owner: Owner) -> String {
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let frame = machine.first_of(owner);
    let stop = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.fails(status, frame)));
    stop.expect_err("it stops").downcast_ref::<String>().expect("words").clone()
}

#[test]
fn what_more_than_one_vm_needs_stops_the_machine_and_says_why() {
    for (owner, whose) in [
        (Owner::Golden(WITHOUT_NIC.number()), "golden"),
        (Owner::VmTables(FIRST.slot.number()), "vm-tables"),
        (Owner::VmMeta(FIRST.slot.number()), "vm-metadata"),
        (Owner::Component(0), "components"),
        (Owner::Core, "core"),
    ] {
        let words = last_words(LOST, owner);
        assert!(words.starts_with("machine check: bank 4, status 0xbd000000000000c0, address 0x"), "{words}");
        assert!(words.contains(&format!(", in memory of {whose}; the hardware reports")), "{words}");
    }
}

#[test]
fn what_nobody_can_confine_stops_the_machine() {
    let words = last_words(LOST | CORRUPT, Owner::Free);
    assert!(words.starts_with("machine check: bank 4, status 0xbf000000000000c0, address 0x"), "{words}");
}

#[test]
fn the_banks_are_looked_at_every_five_seconds() {
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    assert!(machine.is_asleep(), "nobody looks where there are no banks");
    machine.kernel.cpu.errors.look_at = 0;
    machine.look();
    let now = machine.wires.now();
    let next = machine.kernel.cpu.errors.look_at;
    assert!((now + 4 * super::machine::HZ..now + 6 * super::machine::HZ).contains(&next), "{now} {next}");
    assert!(machine.kernel.cpu.next_deadline() <= next);
    let frame = machine.first_of(Owner::Free);
    machine.note(MENDED, frame);
    lines::listen();
    machine.look();
    assert_eq!(lines::heard("has corrected an error").len(), 0, "not yet");
    machine.wires.spend(next - machine.wires.now());
    machine.look();
    assert_eq!(lines::heard("has corrected an error").len(), 1);
}

#[test]
fn what_wakes_a_machine_that_idles_without_an_interrupt_is_looked_at_at_once() {
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    assert!(machine.is_asleep());
    lines::listen();
    machine.hardware.borrow_mut().nmis += 1;
    // It idles, and goes round once more.
    for _ in 0..2 {
        machine.kernel.step();
    }
    assert_eq!(lines::heard("non-maskable").len(), 1, "{:?}", lines::heard(""));
}
