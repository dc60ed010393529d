//! What hypercalls do and answer.

use super::guest::{
    CALL, FAULT_RETURN, FIRST, NOWHERE, START, UPCALL_RETURN, call, field, keep, obituary, poke, results,
};
use super::lines;
use super::machine::{GUEST_PAGES, HZ, IMAGE_PAGE, Machine, WITH_NIC, WITHOUT_NIC};
use crate::kernel::Kernel;
use crate::vm::{NEVER, State};
use abi::component::bits;
use abi::guest::{
    CONSOLE_RING, ERROR_ARGUMENT, ERROR_STATE, ERROR_UNKNOWN, Interrupted, REGISTER_PAGE, device, hypercall, pending,
};
use abi::limits::PAGE_SIZE;
use abi::pager::Access;
use abi::ring::HEADER_BYTES;
use abi::service::Service;
use backend::fake::Step;
use std::cell::RefCell;
use std::rc::Rc;

/// A page of the guest's heap.
const HEAP: u32 = IMAGE_PAGE + 10;
/// Where the note of the image's file lies, which is not zero, in its page of text.
const NOTE: u64 = (IMAGE_PAGE + 1) as u64 * PAGE_SIZE + 0xf00;

fn give_back(first: u64, count: u64) -> Step {
    Step::Hypercall { number: hypercall::GIVE_BACK, a: first, b: count }
}

#[test]
fn nop_returns_the_version() {
    assert_eq!(results(&[call(hypercall::NOP, 7)]), [u64::from(abi::ABI_VERSION)]);
}

#[test]
fn unknown_numbers_are_refused() {
    assert_eq!(results(&[9, 10, u64::MAX - 1, u64::MAX].map(|number| call(number, 0))), [ERROR_UNKNOWN; 4]);
}

#[test]
fn a_hypercall_moves_the_guest_behind_its_instruction() {
    let (mut machine, vm) =
        Machine::<true>::with_guest(WITHOUT_NIC, &[call(hypercall::NOP, 0), call(99, 0), call(hypercall::KICK, 9)]);
    // The fourth is the idle of a script that is over.
    let at = Interrupted { rip: START + 4 * CALL, rsp: 0, rflags: 0x202, rax: 0 };
    assert_eq!(machine.position(vm), at);
}

#[test]
fn idle_returns_at_once_when_something_is_wanted_already() {
    let (mut machine, _) = Machine::<true>::with_guest(
        WITHOUT_NIC,
        &[
            poke(field!(enabled), pending::SHUTDOWN),
            poke(field!(pending), pending::SHUTDOWN | pending::NIC),
            call(hypercall::IDLE, u64::MAX),
            keep(0),
            poke(field!(pending), 0),
        ],
    );
    // Also what is not enabled, as after an idle that took long.
    assert_eq!(machine.kept(1), [pending::SHUTDOWN | pending::NIC]);
    assert_eq!(machine.kernel.cpu.counters.exits, 2);
}

#[test]
fn idle_returns_all_that_is_pending_when_something_wanted_comes() {
    let (mut machine, vm) = Machine::<true>::with_guest(
        WITHOUT_NIC,
        &[poke(field!(enabled), pending::SHUTDOWN), call(hypercall::IDLE, u64::MAX), keep(0), poke(field!(pending), 0)],
    );
    assert_eq!(machine.state(vm), Some(State::Idle { until: u64::MAX }));
    for (bits, wakes) in [(pending::NIC, false), (pending::SHUTDOWN, true)] {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.raise(vms.by_id(vm).expect("it lives"), bits);
        assert_eq!(machine.state(vm) == Some(State::Ready), wakes, "{bits}");
    }
    machine.rouse();
    machine.settle(1000);
    machine.audit();
    assert_eq!(machine.kept(1), [pending::SHUTDOWN | pending::NIC]);
}

#[test]
fn idle_until_the_past_lets_others_run_and_makes_nothing_pending() {
    let mut machine = Machine::<true>::new(2048);
    let order = Rc::new(RefCell::new(Vec::new()));
    let ran = order.clone();
    let mut left = [3, 3];
    machine.guests.borrow_mut().calm = Some(Box::new(move |slot| {
        let left = &mut left[slot as usize];
        if *left == 0 {
            return None;
        }
        *left -= 1;
        ran.borrow_mut().push(slot);
        Some(call(hypercall::IDLE, 1))
    }));
    let [first, second] = [WITHOUT_NIC; 2].map(|image| machine.create(image));
    machine.settle(4000);
    let order = order.borrow();
    let turn = order.iter().position(|&slot| slot == second.slot.number()).expect("it ran");
    // From the turn on that both are there they take turns; who was first has fewer left.
    assert_eq!(order.len(), 6);
    assert!(order[turn..].windows(2).take(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    assert_eq!(machine.word(first, field!(pending)), 0);
}

#[test]
fn idle_until_the_past_returns_zero() {
    assert_eq!(results(&[call(hypercall::IDLE, 0), call(hypercall::IDLE, HZ)]), [0, 0]);
}

#[test]
fn idle_until_later_ends_with_the_alarm_bit_and_not_too_early() {
    let until = 3 * HZ;
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.go_on(&[call(hypercall::IDLE, until), keep(0)]);
    machine.finish();
    let now = machine.wires.now();
    assert_eq!(machine.kept(1), [pending::ALARM]);
    assert_eq!(machine.word(vm, field!(pending)), pending::ALARM);
    assert!((until..until + HZ / 1000).contains(&now), "{now}");
    // From its first second on nobody ran but for moments.
    let idle = machine.kernel.cpu.counters.idle_ticks;
    assert!((HZ..2 * HZ).contains(&idle), "{idle}");
}

#[test]
fn an_alarm_that_is_not_wanted_does_not_end_an_idle() {
    let until = 6 * HZ;
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.go_on(&[call(hypercall::ALARM, until - HZ), call(hypercall::IDLE, until), keep(0)]);
    let mut idled = false;
    for _ in 0..4000 {
        let idles = machine.state(vm) == Some(State::Idle { until });
        if idled && !idles {
            break;
        }
        idled |= idles;
        machine.step();
    }
    assert!(idled && machine.wires.now() >= until, "{}", machine.wires.now());
    assert_eq!(machine.word(vm, field!(alarm)), u64::MAX);
}

#[test]
fn a_deadline_that_is_not_the_alarm_makes_nothing_pending() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let now = machine.wires.now();
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let of = vms.by_id(vm).expect("it lives");
    cpu.wake(of);
    of.alarm = now + 1;
    cpu.deadline_of(of, now);
    assert_eq!(machine.word(vm, field!(pending)), 0);
}

#[test]
fn idle_for_ever_waits_for_what_is_wanted_alone() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[call(hypercall::IDLE, u64::MAX), keep(0)]);
    assert_eq!(machine.state(vm), Some(State::Idle { until: u64::MAX }));
    assert_eq!(machine.deadline_of(vm.slot), NEVER);
    assert_eq!(machine.guests.borrow().steps.len(), 1, "it has not gone on");
}

#[test]
fn exit_ends_the_vm_with_its_code() {
    assert_eq!(obituary(&[call(hypercall::NOP, 0), call(hypercall::EXIT, 0x2a)]), ["exited (detail 0x2a, rip 0x20016"]);
}

#[test]
fn exit_gives_every_frame_back() {
    let (mut machine, _) = Machine::<true>::with_guest(WITH_NIC, &[]);
    let free = machine.kernel.cpu.frames.free_frames();
    let touch = |page| Step::Touch { page, access: Access::Write };
    machine.guests.borrow_mut().steps.extend([touch(HEAP), touch(IMAGE_PAGE + 1), call(hypercall::EXIT, 0)]);
    let second = machine.create(WITH_NIC);
    machine.rouse();
    machine.settle(4000);
    machine.audit();
    assert_eq!(machine.state(second), None);
    assert_eq!(machine.kernel.cpu.frames.free_frames(), free);
}

#[test]
fn a_kick_of_the_console_shows_what_the_guest_wrote() {
    lines::listen();
    let slot = u64::try_from(HEADER_BYTES).expect("small");
    let steps = [
        poke(REGISTER_PAGE + CONSOLE_RING + slot, u64::from_le_bytes(*b"\x02\x00hi\0\0\0\0")),
        poke(REGISTER_PAGE + CONSOLE_RING, 1),
        call(hypercall::KICK, device::CONSOLE),
        keep(0),
    ];
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &steps);
    assert_eq!(machine.kept(1), [0]);
    assert_eq!(lines::heard("guest"), ["INFO guest: vm0.1: hi"]);
}

#[test]
fn a_kick_of_the_nic_reaches_the_demultiplexer() {
    // The fake one answers a kick with the NIC's interrupt.
    let (mut machine, vm) =
        Machine::<true>::with_guest(WITH_NIC, &[call(hypercall::KICK, device::NIC), keep(0), call(hypercall::NOP, 0)]);
    assert_eq!(machine.kept(1), [0]);
    assert_eq!(machine.word(vm, field!(pending)), pending::NIC);
}

#[test]
fn a_kick_of_the_nic_is_nothing_to_a_vm_without_one() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let net = machine.rank(Service::Net);
    machine.go_on(&[call(hypercall::KICK, device::NIC), keep(0)]);
    machine.finish();
    assert_eq!(machine.kept(1), [0]);
    assert_eq!(machine.kernel.cpu.components.list[net].notified & bits::KICK, 0);
    assert_eq!(machine.word(vm, field!(pending)), 0);
}

#[test]
fn a_kick_of_an_unknown_device_is_refused() {
    assert_eq!(results(&[2, 3, u64::MAX].map(|of| call(hypercall::KICK, of))), [ERROR_ARGUMENT; 3]);
}

#[test]
fn an_alarm_is_shown_until_it_is_due_and_pending_then() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.go_on(&[call(hypercall::ALARM, 5 * HZ), keep(0)]);
    machine.finish();
    assert_eq!(machine.kept(1), [0]);
    assert_eq!((machine.word(vm, field!(alarm)), machine.word(vm, field!(pending))), (5 * HZ, 0));
    machine.settle(1000);
    assert_eq!((machine.word(vm, field!(alarm)), machine.word(vm, field!(pending))), (u64::MAX, pending::ALARM));
    assert!(machine.wires.now() >= 5 * HZ);
}

#[test]
fn an_alarm_in_the_past_is_pending_soon() {
    for due in [0, 1, HZ] {
        let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
        machine.go_on(&[call(hypercall::ALARM, due), Step::Compute(100), call(hypercall::NOP, 0)]);
        let before = machine.wires.now();
        machine.settle(1000);
        assert_eq!(machine.word(vm, field!(pending)), pending::ALARM, "{due}");
        assert!(machine.wires.now() - before < HZ / 2, "{due}");
    }
}

#[test]
fn a_new_alarm_replaces_the_old_one_be_it_later_or_earlier() {
    for (first, second) in [(5 * HZ, 7 * HZ), (7 * HZ, 5 * HZ)] {
        let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
        machine.go_on(&[call(hypercall::ALARM, first), call(hypercall::ALARM, second)]);
        machine.finish();
        assert_eq!(machine.deadline_of(vm.slot), second);
        while machine.word(vm, field!(pending)) == 0 {
            machine.step();
        }
        let now = machine.wires.now();
        assert!((second..second + HZ / 5).contains(&now), "{now} after {second}");
        machine.settle(1000);
        assert_eq!(machine.deadline_of(vm.slot), NEVER);
    }
}

#[test]
fn an_alarm_for_never_takes_the_alarm_back() {
    let (mut machine, vm) =
        Machine::<true>::with_guest(WITHOUT_NIC, &[call(hypercall::ALARM, 5 * HZ), call(hypercall::ALARM, u64::MAX)]);
    assert_eq!((machine.word(vm, field!(alarm)), machine.word(vm, field!(pending))), (u64::MAX, 0));
    assert_eq!(machine.deadline_of(vm.slot), NEVER);
}

#[test]
fn an_idle_that_ends_leaves_the_alarm_as_it_is() {
    let steps = [call(hypercall::ALARM, 5 * HZ), call(hypercall::IDLE, 3 * HZ), keep(0), poke(field!(pending), 0)];
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.go_on(&steps);
    machine.finish();
    assert_eq!(machine.kept(1), [pending::ALARM]);
    assert_eq!(machine.word(vm, field!(alarm)), 5 * HZ);
    assert_eq!(machine.deadline_of(vm.slot), 5 * HZ);
}

#[test]
fn give_back_refuses_pages_that_the_vm_does_not_have_or_shares() {
    // Without a NIC: the page at 0, the register page, two page tables, and the first page where a NIC would be.
    let end = u64::from(GUEST_PAGES);
    let bad =
        [(0, 1), (4, 1), (end - 1, 2), (end, 1), (end + 1, 0), (5, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)];
    assert_eq!(results(&bad.map(|(first, count)| give_back(first, count))), [ERROR_ARGUMENT; 8]);
    let good = [(5, 0), (5, 1), (end - 1, 1), (end, 0), (5, end - 5)];
    // What the guest has of these pages is its own, but it has none of them.
    assert_eq!(results(&good.map(|(first, count)| give_back(first, count))), [0; 5]);
}

#[test]
fn give_back_refuses_the_pages_of_the_nic() {
    let calls = [(4, 1), (6, 1), (6, 2), (7, 1)];
    let steps: Vec<Step> = (0..4).flat_map(|index| [give_back(calls[index].0, calls[index].1), keep(index)]).collect();
    let (mut machine, _) = Machine::<true>::with_guest(WITH_NIC, &steps);
    machine.audit();
    assert_eq!(machine.kept(4), [ERROR_ARGUMENT, ERROR_ARGUMENT, ERROR_ARGUMENT, 0]);
}

#[test]
fn give_back_frees_frames_of_the_guests_own_and_counts_them() {
    let touch = |page, access| Step::Touch { page, access };
    let counts = |machine: &mut Machine<true>| {
        let vm = machine.kernel.vms.by_id(FIRST).expect("it lives");
        let (own, _, shared) = vm.life.memory().expect("it has memory").counts();
        (own, shared, machine.kernel.cpu.frames.free_frames())
    };
    let (mut machine, _) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    machine.go_on(&[
        touch(IMAGE_PAGE, Access::Execute),
        touch(IMAGE_PAGE + 1, Access::Write),
        touch(HEAP, Access::Write),
        touch(HEAP + 1, Access::Write),
    ]);
    machine.settle(1000);
    let (own, shared, free) = counts(&mut machine);
    assert_eq!((own, shared), (6, 1), "register page, page tables, three that it wrote to; its text");
    machine.go_on(&[give_back(u64::from(IMAGE_PAGE), 11), keep(0), give_back(u64::from(IMAGE_PAGE), 11), keep(1)]);
    machine.settle(1000);
    machine.audit();
    assert_eq!(machine.kept(2), [2, 0]);
    assert_eq!(counts(&mut machine), (own - 2, 0, free + 2));
}

#[test]
fn pages_that_were_given_back_read_as_at_the_start() {
    let heap = u64::from(HEAP) * PAGE_SIZE;
    let touch = |page, access| Step::Touch { page, access };
    let (mut machine, vm) =
        Machine::<true>::with_guest(WITHOUT_NIC, &[touch(IMAGE_PAGE + 1, Access::Read), touch(HEAP, Access::Read)]);
    let before = [NOTE, heap].map(|address| machine.word(vm, address));
    assert!(before[0] != 0 && before[1] == 0, "{before:x?}");
    machine.go_on(&[poke(NOTE, 5), poke(heap, 6)]);
    machine.settle(1000);
    assert_eq!([NOTE, heap].map(|address| machine.word(vm, address)), [5, 6]);
    machine.go_on(&[
        give_back(u64::from(IMAGE_PAGE), 11),
        keep(0),
        touch(IMAGE_PAGE + 1, Access::Read),
        touch(HEAP, Access::Read),
    ]);
    machine.settle(1000);
    assert_eq!(machine.kept(1), [2]);
    assert_eq!([NOTE, heap].map(|address| machine.word(vm, address)), before);
}

#[test]
fn fault_return_outside_of_a_handler_is_refused() {
    assert_eq!(results(&[FAULT_RETURN]), [ERROR_STATE]);
}

#[test]
fn upcall_return_loads_what_the_register_page_says() {
    let at = field!(upcall);
    let steps =
        [poke(at, 0x5000), poke(at + 8, 0x6000), poke(at + 16, u64::MAX), poke(at + 24, 77), UPCALL_RETURN, keep(0)];
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &steps);
    assert_eq!(machine.kept(1), [77]);
    assert_eq!(machine.switches(), (1, 0));
    // The flags that a guest may set, and no others; then the idle of a script that is over.
    let to = Interrupted { rip: 0x5000 + CALL, rsp: 0x6000, rflags: 0x25_0fd7, rax: 0 };
    assert_eq!(machine.position(vm), to);
}

#[test]
fn upcall_return_to_no_address_ends_the_vm() {
    let detail = ["bad upcall registration (detail 0x123456789abcdef0, rip 0x20013"];
    assert_eq!(obituary(&[poke(field!(upcall), NOWHERE), UPCALL_RETURN]), detail);
}
