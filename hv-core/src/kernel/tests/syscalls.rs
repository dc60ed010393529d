//! What system calls of components do and answer.

use super::component::{Due, Misdeed};
use super::guest::{FIRST, field};
use super::lines;
use super::machine::{HZ, Machine, WITHOUT_NIC};
use crate::component::Run;
use abi::component::{ERROR_ARGUMENT, ERROR_AUTHORITY, ERROR_UNKNOWN, bits, layout, syscall};
use abi::guest::pending;
use abi::limits::{LOG_LINE_BYTES, PAGE_SIZE};
use abi::service::Service;
use abi::vm::VmId;

/// Where the monitor's data lies, behind a page of text, and its bytes.
const DATA: u64 = layout::IMAGE_BASE + PAGE_SIZE;
const IMAGE_BYTES: u64 = 3 * PAGE_SIZE;
const STACK_BYTES: u64 = 2 * PAGE_SIZE;
/// A bit that no fake component waits for or is sent by others.
const BIT: u64 = 1 << 60;

impl Machine<true> {
    /// A component of a machine at rest makes this system call, and is not let on after it: RAX as the call leaves it.
    pub fn ask(&mut self, service: Service, call: [u64; 4]) -> u64 {
        let rank = self.rank(service);
        self.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Ask(call) });
        self.kernel.cpu.attention.set_runnable(rank);
        self.rouse();
        let before = self.kernel.cpu.counters.syscalls;
        self.kernel.run_component(rank);
        assert_eq!(self.kernel.cpu.counters.syscalls, before + 1);
        self.kernel.cpu.components.list[rank].context.rax
    }

    /// A log line that lies in the monitor's memory, `offset` bytes from its beginning.
    fn log(&mut self, level: u64, offset: u64, text: &[u8], address: u64, len: u64) -> u64 {
        let rank = self.rank(Service::Control);
        let block = self.kernel.cpu.components.list[rank].space.block();
        block.write(usize::try_from(offset).expect("in its memory"), text).expect("in its memory");
        self.ask(Service::Control, [syscall::LOG, level, address, len])
    }
}

fn at_rest() -> Machine<true> {
    Machine::with_guest(WITHOUT_NIC, &[]).0
}

#[test]
fn nop_returns_the_version_to_a_component() {
    assert_eq!(at_rest().ask(Service::Pager, [syscall::NOP, 1, 2, 3]), u64::from(abi::ABI_VERSION));
}

#[test]
fn a_system_call_of_an_unknown_number_is_refused() {
    let mut machine = at_rest();
    for number in [11, 12, u64::MAX] {
        assert_eq!(machine.ask(Service::Net, [number, 0, 0, 0]), ERROR_UNKNOWN, "{number}");
    }
}

#[test]
fn a_wait_for_bits_that_are_there_returns_those_of_its_mask_and_clears_them() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    machine.kernel.cpu.components.list[rank].notified = BIT | BIT << 1;
    assert_eq!(machine.ask(Service::Control, [syscall::WAIT, BIT | BIT << 2, u64::MAX, 0]), BIT);
    let component = &machine.kernel.cpu.components.list[rank];
    assert_eq!((component.run, component.notified), (Run::Ready, BIT << 1));
}

#[test]
fn a_wait_until_the_past_returns_zero_at_once() {
    for deadline in [0, HZ] {
        let mut machine = at_rest();
        let rank = machine.rank(Service::Control);
        machine.ask(Service::Control, [syscall::WAIT, BIT, deadline, 0]);
        let before = machine.wires.now();
        machine.step();
        assert_eq!(machine.hardware.borrow().components[rank].returned.last(), Some(&0));
        assert!(machine.wires.now() - before < 1000);
    }
}

#[test]
fn a_wait_until_later_ends_then_with_zero() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    let deadline = 9 * HZ;
    machine.ask(Service::Control, [syscall::WAIT, BIT, deadline, 0]);
    assert_eq!(machine.kernel.cpu.components.list[rank].run, Run::Waiting { mask: BIT, deadline });
    let calls = machine.hardware.borrow().components[rank].returned.len();
    while machine.hardware.borrow().components[rank].returned.len() == calls {
        assert!(!machine.is_asleep());
        machine.step();
    }
    assert_eq!(machine.hardware.borrow().components[rank].returned.last(), Some(&0));
    let now = machine.wires.now();
    assert!((deadline..deadline + HZ / 1000).contains(&now), "{now}");
}

#[test]
fn a_wait_ends_before_its_deadline_when_a_bit_of_its_mask_comes() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    machine.ask(Service::Control, [syscall::WAIT, BIT, 9 * HZ, 0]);
    machine.kernel.cpu.notify(rank, BIT << 1);
    assert_eq!(machine.kernel.cpu.attention.most_important(), None, "it does not wait for that");
    machine.kernel.cpu.notify(rank, BIT);
    assert_eq!(machine.kernel.cpu.attention.most_important(), Some(rank));
    machine.step();
    assert_eq!(machine.hardware.borrow().components[rank].returned.last(), Some(&BIT));
    assert!(machine.wires.now() < 9 * HZ);
}

#[test]
fn notify_and_wait_ring_the_doorbells_of_the_rings_that_they_name() {
    let mut machine = at_rest();
    let [from, to] = [Service::Control, Service::Pager].map(|service| machine.rank(service));
    for (ring, bit) in [(3, BIT), (4, BIT << 1)] {
        let peer = &mut machine.kernel.cpu.components.list[from].peers[ring];
        (peer.rank, peer.bit) = (to, bit);
    }
    let heard = |machine: &mut Machine<true>| core::mem::take(&mut machine.kernel.cpu.components.list[to].notified);
    // No ring, a ring whose other end is the core, beyond all rings.
    assert_eq!(machine.ask(Service::Control, [syscall::NOTIFY, !(1 << 3 | 1 << 4), 0, 0]), 0);
    assert_eq!(heard(&mut machine), 0);
    assert_eq!(machine.ask(Service::Control, [syscall::NOTIFY, 1 << 3, 0, 0]), 0);
    assert_eq!(heard(&mut machine), BIT);
    machine.ask(Service::Control, [syscall::WAIT, 0, u64::MAX, 1 << 4 | 1 << 2]);
    assert_eq!(heard(&mut machine), BIT << 1);
}

#[test]
fn raise_makes_the_nic_and_shutdown_pending() {
    for bits in [pending::NIC, pending::SHUTDOWN, pending::NIC | pending::SHUTDOWN, 0] {
        let mut machine = at_rest();
        assert_eq!(machine.ask(Service::Net, [syscall::RAISE, FIRST.raw(), bits, 0]), 0);
        assert_eq!(machine.word(FIRST, field!(pending)), bits);
    }
}

#[test]
fn raise_refuses_the_bits_that_are_the_cores_or_the_guests() {
    let mut machine = at_rest();
    for bits in [pending::ALARM, pending::ALARM | pending::NIC, 1 << 3, 1 << 63, u64::MAX] {
        assert_eq!(machine.ask(Service::Net, [syscall::RAISE, FIRST.raw(), bits, 0]), ERROR_ARGUMENT, "{bits:#x}");
    }
    assert_eq!(machine.word(FIRST, field!(pending)), 0);
}

#[test]
fn raise_refuses_vms_that_do_not_live() {
    let mut machine = at_rest();
    let other = |slot, generation| VmId::new(slot, generation).raw();
    for vm in [other(0, 0), other(0, 2), other(1, 1), other(0xffff, 1), FIRST.raw() | 1 << 63, u64::MAX] {
        assert_eq!(machine.ask(Service::Net, [syscall::RAISE, vm, pending::NIC, 0]), ERROR_ARGUMENT, "{vm:#x}");
    }
    assert_eq!(machine.word(FIRST, field!(pending)), 0);
}

#[test]
fn raise_needs_authority() {
    let mut machine = at_rest();
    for service in [Service::Pager, Service::Plan, Service::Control] {
        let call = [syscall::RAISE, FIRST.raw(), pending::NIC, 0];
        assert_eq!(machine.ask(service, call), ERROR_AUTHORITY, "{service:?}");
    }
    assert_eq!(machine.word(FIRST, field!(pending)), 0);
}

#[test]
fn a_line_is_logged_at_its_level_with_the_components_name() {
    let mut machine = at_rest();
    for (level, text) in [(1, "ERROR"), (2, "WARN"), (3, "INFO"), (4, "DEBUG"), (5, "TRACE")] {
        lines::listen();
        assert_eq!(machine.log(level, 0x100, b"all is well\x1b!", DATA + 0x100, 13), 0);
        assert_eq!(lines::heard("component"), [format!("{text} component: monitor: all is well?!")]);
    }
}

#[test]
fn a_line_of_no_level_is_refused() {
    let mut machine = at_rest();
    lines::listen();
    for level in [0, 6, u64::MAX] {
        assert_eq!(machine.log(level, 0, b"x", DATA, 1), ERROR_ARGUMENT, "{level}");
    }
    assert_eq!(lines::heard(""), [""; 0]);
}

#[test]
fn a_line_that_is_too_long_is_cut() {
    let mut machine = at_rest();
    lines::listen();
    for len in [LOG_LINE_BYTES as u64, LOG_LINE_BYTES as u64 + 1, u64::MAX] {
        assert_eq!(machine.log(3, 0, &[b'x'; LOG_LINE_BYTES + 1], DATA, len), 0);
        assert_eq!(lines::heard("monitor"), [format!("INFO component: monitor: {}", "x".repeat(LOG_LINE_BYTES))]);
    }
}

#[test]
fn a_line_must_lie_in_the_image_or_on_the_stack() {
    let mut machine = at_rest();
    lines::listen();
    let (image, stack) = (DATA, layout::STACK_TOP);
    let bad = [
        (layout::IMAGE_BASE - 1, 1),
        (image - 1, 2),
        (image + IMAGE_BYTES - 1, 2),
        (image + IMAGE_BYTES, 0),
        (stack - STACK_BYTES - 1, 2),
        (stack - 1, 2),
        (stack, 1),
        (layout::INFO, 1),
        (0, 0),
        (u64::MAX, 240),
    ];
    for (address, len) in bad {
        assert_eq!(machine.log(3, 0, b"", address, len), ERROR_ARGUMENT, "{address:#x}");
    }
    assert_eq!(lines::heard("monitor"), [""; 0]);
    // Constants lie in the module, whose text this is.
    assert_eq!(machine.log(3, 0, b"", layout::IMAGE_BASE + 0x7ff, 1), 0);
    assert_eq!(lines::heard("monitor"), ["INFO component: monitor: ?"]);
    assert_eq!(machine.log(3, IMAGE_BYTES - 1, b"i", image + IMAGE_BYTES - 1, 1), 0);
    assert_eq!(machine.log(3, IMAGE_BYTES, b"s", stack - STACK_BYTES, 1), 0);
    assert_eq!(machine.log(3, IMAGE_BYTES + STACK_BYTES - 1, b"t", stack - 1, 1), 0);
    let said = ["i", "s", "t"].map(|text| format!("INFO component: monitor: {text}"));
    assert_eq!(lines::heard("monitor"), said);
}

#[test]
fn a_port_is_read_by_whom_the_manifest_gives_it() {
    let mut machine = at_rest();
    for (port, width) in [(0x3f8, 1), (0x3ff, 1), (0x3f8, 4), (0x3fe, 2), (0x3fc, 4)] {
        assert_eq!(machine.ask(Service::Control, [syscall::PORT_IN, port, width, 0]), port << 8 | width);
    }
}

#[test]
fn a_port_is_written_by_whom_the_manifest_gives_it() {
    let mut machine = at_rest();
    assert_eq!(machine.ask(Service::Control, [syscall::PORT_OUT, 0x3f8, 1, 0x41]), 0);
    assert_eq!(machine.ask(Service::Control, [syscall::PORT_OUT, 0x3fc, 4, u64::MAX]), 0);
    assert_eq!(machine.hardware.borrow().written, [(0x3f8, 1, 0x41), (0x3fc, 4, u64::MAX)]);
}

#[test]
fn a_port_that_the_manifest_does_not_give_is_refused() {
    let mut machine = at_rest();
    for number in [syscall::PORT_IN, syscall::PORT_OUT] {
        for (port, width) in [(0x3f7, 1), (0x3f7, 2), (0x400, 1), (0x3ff, 2), (0x3fd, 4), (0, 1), (0xffff, 4)] {
            assert_eq!(machine.ask(Service::Control, [number, port, width, 0]), ERROR_AUTHORITY, "{port:#x}");
        }
        assert_eq!(machine.ask(Service::Net, [number, 0x3f8, 1, 0]), ERROR_AUTHORITY);
        assert_eq!(machine.ask(Service::Net, [number, 0, 1, 0]), ERROR_AUTHORITY);
    }
    assert_eq!(machine.hardware.borrow().written, []);
}

#[test]
fn a_port_has_a_width_of_1_2_or_4_and_a_number_of_16_bits() {
    let mut machine = at_rest();
    for number in [syscall::PORT_IN, syscall::PORT_OUT] {
        for (port, width) in [(0x3f8, 0), (0x3f8, 3), (0x3f8, 8), (0x3f8, u64::MAX), (0x1_03f8, 1), (u64::MAX, 1)] {
            assert_eq!(machine.ask(Service::Control, [number, port, width, 0]), ERROR_ARGUMENT, "{port:#x} {width}");
        }
    }
    assert_eq!(machine.hardware.borrow().written, []);
}

#[test]
fn a_component_that_gives_up_is_started_again() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    lines::listen();
    machine.ask(Service::Control, [syscall::EXIT, 9, 0, 0]);
    assert_eq!(machine.kernel.cpu.components.list[rank].run, Run::Condemned(crate::component::Death::Exit(9)));
    machine.settle(1000);
    machine.audit();
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2);
    let line = "ERROR core: component monitor ended itself with code 9: its last lines say why";
    assert_eq!(lines::heard("ended itself"), [line]);
}

#[test]
fn bits_of_an_interrupt_in_a_wait_are_those_of_the_devices() {
    let machine = at_rest();
    let bits_of = |service| {
        let component = &machine.kernel.cpu.components.list[machine.rank(service)];
        component.devices.iter().map(|device| device.bit).collect::<Vec<_>>()
    };
    assert_eq!(bits_of(Service::Net), [1 << bits::IRQ_SHIFT]);
    assert_eq!(bits_of(Service::Control), [bits::PORT_IRQ]);
    assert_eq!(bits_of(Service::Pager), [0; 0]);
}
