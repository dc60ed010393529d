//! Interrupts: who is told, what is masked, and what is acknowledged.

use super::board::{NIC_GSI, SERIAL_GSI, vector};
use super::lines;
use super::machine::{Machine, WITHOUT_NIC};
use crate::board::vectors;
use abi::component::{ERROR_ARGUMENT, bits, syscall};
use abi::service::Service;

/// The notification bit of netmux' NIC.
const NIC: u64 = 1 << bits::IRQ_SHIFT;

impl Machine<true> {
    /// An interrupt comes while the CPU sleeps; nobody but the core has run since. True when it was acknowledged.
    fn comes(&mut self, vector: u8) -> bool {
        assert_eq!(self.hardware.borrow().in_service, 0);
        self.wires.raise(vector);
        self.rouse();
        let before = self.kernel.cpu.counters.interrupts;
        self.kernel.step();
        assert_eq!(self.kernel.cpu.counters.interrupts, before + 1);
        core::mem::take(&mut self.hardware.borrow_mut().in_service) == 0
    }

    fn masked(&self) -> Vec<u32> {
        self.hardware.borrow().masked.iter().copied().collect()
    }

    /// Notification bits of netmux and the monitor.
    fn notified(&self) -> [u64; 2] {
        [Service::Net, Service::Control].map(|service| self.kernel.cpu.components.list[self.rank(service)].notified)
    }

    /// A component says that it has served a device: what it is answered.
    fn acknowledges(&mut self, service: Service, device: u64) -> u64 {
        self.ask(service, [syscall::IRQ_ACK, device, 0, 0])
    }
}

fn at_rest() -> Machine<true> {
    Machine::with_guest(WITHOUT_NIC, &[]).0
}

#[test]
fn interrupts_of_devices_are_open_when_their_components_have_started() {
    assert_eq!(at_rest().masked(), [0; 0]);
}

#[test]
fn a_devices_interrupt_is_masked_acknowledged_and_told_to_its_component() {
    let mut machine = at_rest();
    assert!(machine.comes(vector(NIC_GSI)));
    assert_eq!(machine.masked(), [NIC_GSI]);
    assert_eq!(machine.notified(), [NIC, 0]);
    assert_eq!(machine.kernel.cpu.attention.most_important(), Some(machine.rank(Service::Net)));
}

#[test]
fn the_interrupt_of_ports_is_told_by_a_bit_of_its_own() {
    let mut machine = at_rest();
    assert!(machine.comes(vector(SERIAL_GSI)));
    assert_eq!(machine.masked(), [SERIAL_GSI]);
    assert_eq!(machine.notified(), [0, bits::PORT_IRQ]);
}

#[test]
fn an_interrupt_comes_again_when_its_component_has_served_it() {
    let mut machine = at_rest();
    assert!(machine.comes(vector(NIC_GSI)));
    assert_eq!(machine.acknowledges(Service::Net, 0), 0);
    assert_eq!(machine.masked(), [0; 0]);
}

#[test]
fn whoever_waits_says_with_it_which_devices_it_has_served() {
    for call in [syscall::WAIT, syscall::NOTIFY] {
        let of_wait = |bits| if call == syscall::WAIT { [call, 0, u64::MAX, bits] } else { [call, bits, 0, 0] };
        let mut machine = at_rest();
        assert!(machine.comes(vector(NIC_GSI)));
        // Of devices that it does not have nothing is heard, nor of those of others.
        machine.ask(Service::Control, of_wait(NIC << 1 | NIC << 4 | 1 << 63));
        machine.ask(Service::Net, of_wait(0));
        machine.ask(Service::Net, of_wait(NIC << 1 | NIC << 4 | NIC << 15 | 1 << 63));
        assert_eq!(machine.masked(), [NIC_GSI]);
        machine.ask(Service::Net, of_wait(NIC));
        assert_eq!(machine.masked(), [0; 0]);
    }
}

#[test]
fn a_device_that_the_component_does_not_have_cannot_be_acknowledged() {
    let mut machine = at_rest();
    assert!(machine.comes(vector(NIC_GSI)));
    for device in [1, 4, 1 << 32, u64::MAX] {
        assert_eq!(machine.acknowledges(Service::Net, device), ERROR_ARGUMENT, "{device}");
    }
    assert_eq!(machine.acknowledges(Service::Pager, 0), ERROR_ARGUMENT);
    // Its own, and not the NIC's.
    assert_eq!(machine.acknowledges(Service::Control, 0), 0);
    assert_eq!(machine.masked(), [NIC_GSI]);
}

#[test]
fn a_device_without_an_interrupt_cannot_be_acknowledged() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Net);
    machine.kernel.cpu.components.list[rank].devices[0].gsi = None;
    assert_eq!(machine.acknowledges(Service::Net, 0), ERROR_ARGUMENT);
}

#[test]
fn all_components_on_a_shared_line_are_told() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Control);
    machine.kernel.cpu.components.list[rank].devices[0].gsi = Some(NIC_GSI);
    assert!(machine.comes(vector(NIC_GSI)));
    assert_eq!(machine.masked(), [NIC_GSI]);
    assert_eq!(machine.notified(), [NIC, bits::PORT_IRQ]);
}

#[test]
fn an_interrupt_that_nobody_has_is_masked_and_acknowledged() {
    let mut machine = at_rest();
    assert!(machine.comes(vector(9)));
    assert_eq!(machine.masked(), [9]);
    assert_eq!(machine.notified(), [0, 0]);
}

#[test]
fn messages_are_numbered_behind_the_lines() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Net);
    let number = u32::from(vectors::GSI_COUNT) + 2;
    machine.kernel.cpu.components.list[rank].devices[0].gsi = Some(number);
    assert!(machine.comes(vectors::MESSAGE + 2));
    assert_eq!(machine.masked(), [number]);
    assert_eq!(machine.notified(), [NIC, 0]);
}

#[test]
fn spurious_interrupts_are_not_acknowledged() {
    let mut machine = at_rest();
    for vector in [vectors::SPURIOUS, vectors::LEGACY + 7, vectors::LEGACY + 15] {
        assert!(!machine.comes(vector), "{vector:#x}");
        assert!(machine.kernel.cpu.attention.is_none());
    }
    assert_eq!(machine.masked(), [0; 0]);
    assert_eq!(machine.notified(), [0, 0]);
}

#[test]
fn an_error_of_the_interrupt_controller_is_said_and_acknowledged() {
    let mut machine = at_rest();
    lines::listen();
    assert!(machine.comes(vectors::ERROR));
    assert_eq!(lines::heard(""), ["WARN core: the local APIC reports an error"]);
    assert_eq!(machine.masked(), [0; 0]);
}

#[test]
fn the_timer_is_the_cores_own() {
    let mut machine = at_rest();
    machine.kernel.cpu.armed = 1;
    assert!(machine.comes(vectors::TIMER));
    assert_eq!(machine.masked(), [0; 0]);
    assert_eq!(machine.notified(), [0, 0]);
    assert_eq!(machine.kernel.cpu.armed, u64::MAX);
    assert!(machine.kernel.cpu.attention.needs_core() && machine.kernel.cpu.attention.take_timer());
}

#[test]
fn nmis_are_said_once_when_deadlines_are_looked_at() {
    let mut machine = at_rest();
    machine.hardware.borrow_mut().nmis = 2;
    lines::listen();
    for expected in [1, 0] {
        assert!(machine.comes(vectors::TIMER));
        machine.kernel.step();
        assert_eq!(lines::heard("WARN core: 2 non-maskable interrupts since boot").len(), expected);
    }
}

#[test]
fn a_component_that_dies_has_its_devices_quiet_until_its_successor_starts() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Net);
    assert!(machine.comes(vector(NIC_GSI)));
    // Many quick deaths: the next start waits.
    machine.kernel.cpu.components.list[rank].quick_deaths = 5;
    machine.kernel.cpu.components.list[rank].started_at = machine.wires.now();
    machine.kernel.cpu.condemn(rank, crate::component::Death::Exit(1));
    machine.kernel.carry_out();
    assert_eq!(machine.masked(), [NIC_GSI]);
    assert_eq!(machine.hardware.borrow().bus_masters.len(), 0);
    assert_eq!(machine.notified(), [0, 0]);
    machine.settle(1000);
    assert_eq!(machine.masked(), [0; 0]);
    assert_eq!(machine.hardware.borrow().bus_masters.len(), 1);
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2);
}
