//! The hardware of the fake machine: it notes what the core asks of it, and lets fake components run.

use super::component::FakeComponent;
use crate::board::pci::PciInfo;
use crate::board::{Board, Devices, vectors};
use crate::trap::{Errors, Make, Trap, UserContext};
use abi::boot::Bar;
use abi::log::Delivery;
use abi::pci::{CONFIG_BYTES, Config};
use backend::fake::{Asked, Wires};
use base::pci::PciAddress;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The interrupt of the only PCI device.
pub const NIC_GSI: u32 = 11;
/// The interrupt of the serial line.
pub const SERIAL_GSI: u32 = 4;
/// What CR3 holds beside the address of the tables.
const CR3_FLAGS: u64 = 1 << 63 | 0xfff;
/// Ticks that a component runs until its next trap.
const TURN_TICKS: u64 = 200;

/// What the core has done to the hardware, and who runs on it.
#[derive(Default)]
pub struct Hardware {
    /// By rank.
    pub components: Vec<FakeComponent>,
    /// Roots of their tables, by rank.
    pub roots: Vec<u64>,
    loaded: Option<u64>,
    pub masked: BTreeSet<u32>,
    /// Interrupts that have been acknowledged and not ended.
    pub in_service: u32,
    pub bus_masters: BTreeSet<usize>,
    /// What components wrote to ports: port, width, value.
    pub written: Vec<(u16, u64, u64)>,
    pub nmis: u64,
    /// Those that have woken the CPU, or came while it did not sleep.
    nmis_taken: u64,
    /// Errors in the banks.
    pub errors: Errors,
    /// Machine checks that interrupted the core or a component.
    pub machine_checks: u64,
    /// The last machine check interrupted something that cannot go on.
    pub lost_its_place: bool,
    pub powered_off: bool,
    /// How often somebody ran, or the CPU slept.
    pub progress: u64,
    /// The CPU slept, and nothing will ever wake it.
    pub asleep: bool,
    random: u64,
    /// Where crossings are written down, if somebody looks.
    pub crossings: Option<Rc<RefCell<Vec<Asked>>>>,
}

pub struct FakeBoard {
    pub wires: Rc<Wires>,
    pub hardware: Rc<RefCell<Hardware>>,
}

impl FakeBoard {
    fn taken(&mut self, vector: Option<u8>) -> Option<u8> {
        self.hardware.borrow_mut().in_service += u32::from(vector.is_some());
        vector
    }
}

impl Board for FakeBoard {
    fn now(&self) -> u64 {
        self.wires.now()
    }

    fn set_timer(&mut self, deadline: u64) {
        self.wires.set_timer(deadline);
    }

    fn end_of_interrupt(&mut self) {
        // A guest's CPU of the kind that takes interrupts by itself does not pass through `taken`.
        let mut hardware = self.hardware.borrow_mut();
        hardware.in_service = hardware.in_service.saturating_sub(1);
    }

    fn mask(&mut self, gsi: u32) {
        self.hardware.borrow_mut().masked.insert(gsi);
    }

    fn unmask(&mut self, gsi: u32) {
        self.hardware.borrow_mut().masked.remove(&gsi);
    }

    fn port(&mut self, port: u16, width: u64, value: Option<u64>) -> u64 {
        let Some(value) = value else { return u64::from(port) << 8 | width };
        self.hardware.borrow_mut().written.push((port, width, value));
        0
    }

    fn set_bus_master(&mut self, device: usize, on: bool) {
        let mut hardware = self.hardware.borrow_mut();
        if on {
            hardware.bus_masters.insert(device);
        } else {
            hardware.bus_masters.remove(&device);
        }
    }

    fn random(&mut self) -> [u8; 16] {
        let mut hardware = self.hardware.borrow_mut();
        hardware.random = hardware.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        u128::from(hardware.random).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_le_bytes()
    }

    fn idle(&mut self) -> Option<u8> {
        let nmis = self.hardware.borrow().nmis;
        let is_woken = core::mem::replace(&mut self.hardware.borrow_mut().nmis_taken, nmis) != nmis;
        let vector = if is_woken { self.wires.take() } else { self.wires.sleep() };
        let mut hardware = self.hardware.borrow_mut();
        hardware.progress += 1;
        hardware.asleep = vector.is_none() && !is_woken;
        drop(hardware);
        self.taken(vector)
    }

    fn take_interrupt(&mut self) -> Option<u8> {
        let vector = self.wires.take();
        self.taken(vector)
    }

    fn nmi_count(&self) -> u64 {
        self.hardware.borrow().nmis
    }

    fn machine_checks(&self) -> u64 {
        self.hardware.borrow().machine_checks
    }

    fn has_error_banks(&self) -> bool {
        false
    }

    fn make(&self) -> Make {
        Make::Intel
    }

    fn take_errors(&mut self) -> (Errors, bool) {
        let mut hardware = self.hardware.borrow_mut();
        (core::mem::take(&mut hardware.errors), !core::mem::take(&mut hardware.lost_its_place))
    }

    unsafe fn load_space(&mut self, cr3: u64) {
        self.hardware.borrow_mut().loaded = Some(cr3 & !CR3_FLAGS);
    }

    unsafe fn enter(&mut self, context: &mut UserContext) -> Trap {
        let mut hardware = self.hardware.borrow_mut();
        hardware.progress += 1;
        let loaded = hardware.loaded.expect("an address space is loaded");
        let rank = hardware.roots.iter().position(|&root| root == loaded).expect("a component's address space");
        if let Some(crossings) = &hardware.crossings {
            crossings.borrow_mut().push(Asked::Component(rank));
        }
        self.wires.spend(TURN_TICKS);
        if let Some(vector) = self.wires.take() {
            hardware.in_service += 1;
            return Trap::Interrupt(vector);
        }
        hardware.components[rank].run(context, &self.wires)
    }

    fn power_off(&mut self) {
        self.hardware.borrow_mut().powered_off = true;
    }
}

impl Devices for FakeBoard {
    fn pci_count(&self) -> usize {
        1
    }

    fn pci_device(&self, index: usize) -> Option<PciInfo> {
        let mut bars = heapless::Vec::new();
        bars.push(Bar { address: 0xf000_0000, bytes: 0x2000, ..Bar::default() }).expect("room");
        (index == 0).then(|| PciInfo {
            vendor: 0x8086,
            device: 0x100e,
            class: 0x02_0000,
            address: PciAddress(0x18),
            bars,
            ports: heapless::Vec::new(),
            msix: None,
            config: Config([0; CONFIG_BYTES]),
        })
    }

    fn route_pci(&mut self, _: usize) -> Option<u32> {
        self.mask(NIC_GSI);
        Some(NIC_GSI)
    }

    fn route_isa(&mut self, _: u32) -> Option<u32> {
        self.mask(SERIAL_GSI);
        Some(SERIAL_GSI)
    }

    fn delivery(&self, _: Option<u32>) -> Delivery {
        Delivery::Intx
    }
}

/// The vector of an interrupt.
pub fn vector(gsi: u32) -> u8 {
    vectors::GSI + u8::try_from(gsi).expect("a wire")
}
