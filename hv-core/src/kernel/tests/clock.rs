//! Unix time, adjusted by a controller: what VMs find in their register pages.

use super::comings;
use super::machine::{HZ, Machine, Places, WITHOUT_NIC};
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::RegisterPage;
use abi::guest::pending;
use abi::vm::VmId;
use core::mem::offset_of;

/// 32.32: a tick of the fake TSC is a nanosecond.
const NOMINAL: u64 = 1 << 32;
const HOUR: u64 = 3600 * HZ;

/// What a guest finds: the sequence word, nanoseconds per tick, and the Unix time that it would compute now.
fn found(machine: &mut Machine<true>, vm: VmId) -> (u32, u64, u64) {
    let now = machine.wires.now();
    let vm = machine.kernel.vms.by_id(vm).expect("it is in");
    let page = *vm.life.body().expect("it is in").registers.memory();
    let word = |offset: usize| page.load64(offset).expect("in the page");
    let rate = word(offset_of!(RegisterPage, ns_per_tick));
    let ticks = u128::from(now - word(offset_of!(RegisterPage, clock_tsc)));
    let ns = u64::try_from((ticks * u128::from(rate)) >> 32).expect("short");
    let sequence = page.load32(offset_of!(RegisterPage, sequence)).expect("in the page");
    (sequence, rate, word(offset_of!(RegisterPage, clock_unix_ns)) + ns)
}

fn adjust(machine: &mut Machine<true>, by_ns: i64, ppm: u32) -> (u32, u64) {
    match machine.request(ControlRequest::AdjustClock { by_ns: by_ns.cast_unsigned(), ppm })[..] {
        [ControlReply::Done { status, value }] => (status, value),
        ref other => panic!("{other:?}"),
    }
}

/// Each look at the clock takes a tick.
fn is_about(unix: u64, expected: u64) -> bool {
    unix.abs_diff(expected) <= 8
}

/// Unix time of a machine that nobody has adjusted.
fn free(machine: &Machine<true>) -> u64 {
    machine.wires.now() - HZ
}

#[test]
fn all_vms_that_are_in_find_the_time_that_was_set_and_nobody_is_woken() {
    // More than are told at once.
    let mut machine = Machine::<true>::with_places(4096, Places { slots: 128, seats: 128 });
    machine.settle(4000);
    let vms: Vec<_> = (0..70)
        .map(|_| {
            let vm = machine.create(WITHOUT_NIC);
            machine.rouse();
            machine.settle(20_000);
            vm
        })
        .collect();
    let before: Vec<_> = vms.iter().map(|&vm| found(&mut machine, vm)).collect();
    assert!(before.iter().all(|&(sequence, rate, _)| (sequence, rate) == (0, NOMINAL)));
    assert!(is_about(before[69].2, free(&machine)));
    let ran = machine.guests.borrow().asked.clone();
    let (done, unix) = adjust(&mut machine, HOUR.cast_signed(), 0);
    assert!(done == status::OK && (HOUR..HOUR + free(&machine) + 1).contains(&unix), "{unix}");
    for vm in vms {
        let (sequence, rate, unix) = found(&mut machine, vm);
        assert!((sequence, rate) == (2, NOMINAL) && is_about(unix, HOUR + free(&machine)), "{sequence} {unix}");
    }
    assert_eq!(machine.guests.borrow().asked, ran);
    // Who is created later.
    let late = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(20_000);
    let (sequence, rate, unix) = found(&mut machine, late);
    assert!((sequence, rate) == (0, NOMINAL) && is_about(unix, HOUR + free(&machine)), "{unix}");
}

#[test]
fn a_small_adjustment_takes_its_time_and_ends_by_itself() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    let now = machine.wires.now();
    assert!(machine.kernel.cpu.clock.adjust(now, 1_000_000, 1_000));
    machine.kernel.cpu.clock_has_changed();
    machine.kernel.tell_clock();
    let (sequence, rate, unix) = found(&mut machine, vm);
    assert_eq!((sequence, rate), (2, NOMINAL + NOMINAL / 1_000));
    let behind = 1_000_000 + free(&machine) - unix;
    assert!((1..=1_000_008).contains(&behind), "{behind}");
    assert!(machine.kernel.cpu.next_deadline() <= machine.wires.now() + HZ);
    // Nobody else does anything.
    machine.rouse();
    machine.settle(20_000);
    let (sequence, rate, unix) = found(&mut machine, vm);
    assert_eq!((sequence, rate), (4, NOMINAL));
    assert!(is_about(unix, 1_000_000 + free(&machine)), "{unix}");
    assert!(machine.wires.now() - now >= HZ);
}

#[test]
fn a_vm_that_was_out_finds_it_when_it_comes_in() {
    let (mut machine, vms) = comings::machine(2);
    comings::put_out(&mut machine, vms[0]);
    assert_eq!(adjust(&mut machine, HOUR.cast_signed(), 0).0, status::OK);
    comings::bring_in(&mut machine, vms[0], pending::NIC);
    for vm in vms {
        let (_, rate, unix) = found(&mut machine, vm);
        assert!(rate == NOMINAL && is_about(unix, HOUR + free(&machine)), "{unix}");
    }
}

#[test]
fn what_no_clock_can_do_is_refused_and_changes_nothing() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITHOUT_NIC, &[]);
    for (by_ns, ppm) in [(1, 1_001), (i64::MIN, 0), (-HOUR.cast_signed(), 500), (i64::MAX, 0)] {
        assert_eq!(adjust(&mut machine, by_ns, ppm), (status::BAD_REQUEST, 0));
    }
    let (sequence, rate, unix) = found(&mut machine, vm);
    assert!((sequence, rate) == (0, NOMINAL) && is_about(unix, free(&machine)), "{unix}");
}
