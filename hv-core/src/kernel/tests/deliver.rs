//! Upcalls and faults: when they are delivered, what the guest is told, and how it goes on.

use super::guest::{
    CALL, FAULT_RETURN, FIRST, NOWHERE, START, UPCALL_RETURN, call, faults_at, field, keep, obituary, poke, upcalls_at,
};
use super::lines;
use super::machine::{Machine, WITHOUT_NIC};
use crate::vm::State;
use abi::guest::{Interrupted, hypercall, pending};
use backend::fake::Step;

/// Where the guests of these tests are entered.
const UPCALL: u64 = 0x4000;
const HANDLER: u64 = 0x7000;
/// A bit that these guests set themselves. To set bits is the core's: it looks only while something that it has made pending is
/// still there, [`UNWANTED`].
const OWN: u64 = 1 << 40;
/// A bit that no guest enables.
const UNWANTED: u64 = 1 << 41;
const NOP: Step = Step::Hypercall { number: hypercall::NOP, a: 0, b: 0 };
/// What `NOP` returns.
const VERSION: u64 = abi::ABI_VERSION as u64;

impl<const TIMER: bool> Machine<TIMER> {
    /// Make bits pending for the first VM, and let it run until it sleeps.
    fn raised(&mut self, bits: u64) {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.kernel;
        cpu.raise(vms.by_id(FIRST).expect("it lives"), bits);
        self.rouse();
        self.settle(1000);
        self.audit();
    }
}

/// The first VM has idled, and then done these steps and idled again.
fn after(steps: &[&[Step]]) -> Machine<true> {
    let (mut machine, _) = Machine::with_guest(WITHOUT_NIC, &[]);
    machine.raised(UNWANTED);
    machine.go_on(&steps.concat());
    machine.finish();
    machine
}

/// Where a guest is that did so many hypercalls since it was entered at `rip` with `rsp`.
fn at(rip: u64, calls: u64, rsp: u64) -> Interrupted {
    Interrupted { rip: rip + calls * CALL, rsp, rflags: 0x202, rax: 0 }
}

#[test]
fn an_upcall_notes_where_the_guest_was_and_switches_upcalls_off() {
    let mut machine = after(&[&upcalls_at(UPCALL, pending::SHUTDOWN)]);
    machine.guests.borrow_mut().steps.push_back(poke(field!(pending), 0));
    machine.raised(pending::SHUTDOWN | pending::NIC);
    // Behind its two idles, the second of which returned what is pending.
    let interrupted = Interrupted { rax: pending::SHUTDOWN | pending::NIC | UNWANTED, ..at(START, 2, 0) };
    assert_eq!(machine.interrupted(field!(upcall)), interrupted);
    assert_eq!(machine.switches(), (0, 0));
    assert_eq!(machine.position(FIRST), at(UPCALL, 1, 0x8_0000));
}

#[test]
fn what_is_not_enabled_causes_no_upcall() {
    let mut machine =
        after(&[&upcalls_at(UPCALL, pending::SHUTDOWN), &[poke(field!(pending), OWN | pending::NIC), NOP]]);
    assert_eq!(machine.switches(), (1, 0));
    assert_eq!(machine.position(FIRST), at(START, 3, 0));
    machine.raised(pending::ALARM);
    assert_eq!(machine.position(FIRST), at(START, 3, 0));
}

#[test]
fn no_upcall_comes_while_they_are_off() {
    for off in [0, 2, 0xffff_ffff] {
        let steps = [poke(field!(upcalls_on), off), poke(field!(pending), OWN), NOP, poke(field!(pending), 0)];
        let mut machine = after(&[&upcalls_at(UPCALL, OWN), &steps]);
        assert_eq!(machine.switches(), (off, 0));
        assert_eq!(machine.position(FIRST), at(START, 3, 0), "{off}");
    }
}

#[test]
fn no_upcall_comes_without_an_entry() {
    let mut machine = after(&[&upcalls_at(0, OWN), &[poke(field!(pending), OWN), NOP, poke(field!(pending), 0)]]);
    assert_eq!(machine.switches(), (1, 0));
    assert_eq!(machine.position(FIRST), at(START, 3, 0));
}

#[test]
fn what_is_wanted_causes_an_upcall_at_the_next_exit() {
    let mut machine = after(&[&upcalls_at(UPCALL, OWN), &[poke(field!(pending), OWN), NOP, poke(field!(pending), 0)]]);
    assert_eq!(machine.interrupted(field!(upcall)), Interrupted { rax: VERSION, ..at(START, 2, 0) });
    assert_eq!(machine.position(FIRST), at(UPCALL, 1, 0x8_0000));
}

#[test]
fn what_was_pending_before_upcalls_were_on_comes_at_the_next_exit() {
    let [entry, stack, enabled, on] = upcalls_at(UPCALL, OWN);
    let steps = [entry, stack, poke(field!(pending), OWN), NOP, enabled, NOP, on, NOP, poke(field!(pending), 0)];
    let mut machine = after(&[&steps]);
    assert_eq!(machine.interrupted(field!(upcall)), Interrupted { rax: VERSION, ..at(START, 4, 0) });
    assert_eq!(machine.position(FIRST), at(UPCALL, 1, 0x8_0000));
}

#[test]
fn an_alarm_interrupts_a_guest_that_computes() {
    let mut machine = after(&[&upcalls_at(UPCALL, pending::ALARM)]);
    let due = machine.wires.now() + 5_000;
    machine.go_on(&[call(hypercall::ALARM, due), Step::Compute(9_000), Step::Compute(1), poke(field!(pending), 0)]);
    machine.finish();
    machine.audit();
    assert_eq!(machine.interrupted(field!(upcall)), at(START, 3, 0));
    assert_eq!(machine.position(FIRST), at(UPCALL, 1, 0x8_0000));
}

#[test]
fn nothing_interrupts_an_upcall_and_what_came_meanwhile_comes_when_it_returns() {
    let other = OWN << 1;
    let steps = [
        poke(field!(pending), OWN),
        NOP,
        // In the upcall.
        poke(field!(pending), other),
        call(99, 0),
        UPCALL_RETURN,
        // In the next one.
        poke(field!(pending), 0),
    ];
    let mut machine = after(&[&upcalls_at(UPCALL, OWN | other), &steps]);
    // The second upcall has interrupted the guest at the very place to which the first returned, with the RAX of then.
    assert_eq!(machine.interrupted(field!(upcall)), Interrupted { rax: VERSION, ..at(START, 2, 0) });
    assert_eq!(machine.switches(), (0, 0));
    assert_eq!(machine.position(FIRST), at(UPCALL, 1, 0x8_0000));
}

#[test]
fn an_upcall_that_clears_nothing_comes_again_as_soon_as_it_returns() {
    let steps = [poke(field!(pending), OWN), NOP, UPCALL_RETURN, poke(field!(pending), 0)];
    let mut machine = after(&[&upcalls_at(UPCALL, OWN), &steps]);
    assert_eq!(machine.switches(), (0, 0));
    assert_eq!(machine.position(FIRST), at(UPCALL, 1, 0x8_0000));
}

#[test]
fn a_guest_goes_on_where_its_upcall_found_it() {
    let steps = [poke(field!(pending), OWN), NOP, poke(field!(pending), 0), call(99, 0), UPCALL_RETURN, keep(0)];
    let mut machine = after(&[&upcalls_at(UPCALL, OWN), &steps]);
    assert_eq!(machine.kept(1), [VERSION]);
    assert_eq!(machine.switches(), (1, 0));
    assert_eq!(machine.position(FIRST), at(START, 3, 0));
}

#[test]
fn an_upcall_entry_that_is_no_address_ends_the_vm_when_it_is_used() {
    lines::listen();
    let mut machine = after(&[&upcalls_at(NOWHERE, pending::SHUTDOWN)]);
    machine.raised(pending::SHUTDOWN);
    assert_eq!(machine.state(FIRST), None);
    let ends = lines::heard(" ended: ");
    assert_eq!(ends.len(), 1);
    assert!(ends[0].contains("bad upcall registration (detail 0x123456789abcdef0, "), "{ends:?}");
    // One that is not used harms nobody.
    let mut machine = after(&[&upcalls_at(NOWHERE, OWN), &[NOP]]);
    assert_eq!(machine.state(FIRST), Some(State::Idle { until: u64::MAX }));
}

#[test]
fn a_fault_entry_that_is_no_address_ends_the_vm_when_it_is_used() {
    let steps = [&faults_at(NOWHERE)[..], &[Step::Exception { vector: 0 }]].concat();
    assert_eq!(obituary(&steps), ["bad upcall registration (detail 0x123456789abcdef0, rip 0x20010"]);
}

#[test]
fn a_fault_handler_returns_to_where_it_wants_to() {
    let to = field!(fault);
    let steps = [
        Step::Exception { vector: 0 },
        poke(to, 0x5000),
        poke(to + 8, 0x6000),
        poke(to + 16, u64::MAX),
        poke(to + 24, 77),
        FAULT_RETURN,
        keep(0),
    ];
    let mut machine = after(&[&faults_at(HANDLER), &steps]);
    assert_eq!(machine.kept(1), [77]);
    assert_eq!(machine.switches(), (0, 0));
    assert_eq!(machine.position(FIRST), Interrupted { rflags: 0x25_0fd7, ..at(0x5000, 1, 0x6000) });
}

#[test]
fn a_fault_handler_that_returns_to_no_address_ends_the_vm() {
    let steps = [&faults_at(HANDLER)[..], &[Step::Exception { vector: 0 }, poke(field!(fault), NOWHERE), FAULT_RETURN]]
        .concat();
    assert_eq!(obituary(&steps), ["bad upcall registration (detail 0x123456789abcdef0, rip 0x7003"]);
}

#[test]
fn an_upcall_may_interrupt_a_fault_handler() {
    let steps = [
        Step::Exception { vector: 0 },
        poke(field!(upcalls_on), 1 | 1 << 32),
        poke(field!(pending), OWN),
        NOP,
        poke(field!(pending), 0),
    ];
    let mut machine = after(&[&upcalls_at(UPCALL, OWN), &faults_at(HANDLER), &steps]);
    assert_eq!(machine.interrupted(field!(upcall)), Interrupted { rax: VERSION, ..at(HANDLER, 1, 0x9_0000) });
    assert_eq!(machine.switches(), (0, 1));
}

#[test]
fn a_fault_in_an_upcall_is_like_any_other() {
    let steps = [poke(field!(pending), OWN), NOP, poke(field!(pending), 0), Step::Exception { vector: 0 }];
    let mut machine = after(&[&upcalls_at(UPCALL, OWN), &faults_at(HANDLER), &steps]);
    assert_eq!(machine.interrupted(field!(fault)), Interrupted { rax: VERSION, ..at(UPCALL, 0, 0x8_0000) });
    assert_eq!(machine.switches(), (0, 1));
    assert_eq!(machine.position(FIRST), at(HANDLER, 1, 0x9_0000));
}
