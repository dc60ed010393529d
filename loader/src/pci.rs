//! Looks for PCI functions, and how large their registers are (PCI Local Bus 3.0, section 6.2.5.1).

use crate::memory::PhysAddr;
use abi::boot::{Bar, MAX_PCI_DEVICES, PciDevice};
use abi::limits::PAGE_SIZE;
use abi::pci::{CLASS_IDE, CONFIG_BYTES, Config, MsixPlace, is_of_class};
use base::pci::PciAddress;
use core::ptr::NonNull;

const COMMAND: u8 = 0x04;
const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MEMORY: u32 = 1 << 1;

/// How configuration registers are reached: ports on the machine, an array in host tests.
pub trait ConfigSpace {
    /// Reads a register.
    fn read(&self, at: PciAddress, register: u8) -> u32;
    /// Writes a register of the header. While a base address register is asked for its size, decoding is off.
    fn write(&mut self, at: PciAddress, register: u8, value: u32);
    /// Hard disks that a BIOS has found; 0 where there was no BIOS.
    fn bios_disks(&self) -> u8;
}

/// Where a BIOS keeps the number of hard disks that it has found (its data area at 0x400, offset 0x75).
const BIOS_DISKS: u64 = 0x475;

/// The machine's own.
pub struct Ports;

impl ConfigSpace for Ports {
    fn read(&self, at: PciAddress, register: u8) -> u32 {
        at.read(register)
    }

    fn write(&mut self, at: PciAddress, register: u8, value: u32) {
        // SAFETY: only [`read_bars`] writes, and it restores what it has changed while the device answered at no address.
        unsafe { at.write(register, value) };
    }

    fn bios_disks(&self) -> u8 {
        let at = PhysAddr::new(BIOS_DISKS).as_ptr::<u8>();
        // SAFETY: the early page tables show the first megabyte; any byte is a number.
        unsafe { at.read_volatile() }
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct PciDevices {
    /// The devices, in the order of their addresses.
    pub devices: heapless::Vec<PciDevice, MAX_PCI_DEVICES>,
    /// Devices beyond [`MAX_PCI_DEVICES`].
    pub dropped: usize,
    /// Bridges with registers of their own, of which nothing else is known.
    pub bridges: usize,
    /// An IDE controller may have disks: nearly every machine has one, and most have nothing on it but a CD-ROM drive.
    pub ide: bool,
}

impl PciDevices {
    /// Looks at every function of every bus.
    pub fn scan(space: &mut impl ConfigSpace) -> PciDevices {
        let mut found = PciDevices { ide: space.bios_disks() != 0, ..PciDevices::default() };
        for bus in 0..=255_u16 {
            for device in 0..32 {
                let first = PciAddress(bus << 8 | device << 3);
                if space.read(first, 0) == u32::MAX {
                    continue;
                }
                // Header type, bit 7: more than one function.
                let functions = if space.read(first, 0x0c) >> 23 & 1 != 0 { 8 } else { 1 };
                for function in 0..functions {
                    let address = PciAddress(first.0 | function);
                    if space.read(address, 0) == u32::MAX {
                        continue;
                    }
                    found.bridges += usize::from(is_bridge_with_registers(space, address));
                    if found.devices.push(read_device(space, address)).is_err() {
                        found.dropped += 1;
                    }
                }
            }
        }
        found
    }

    /// Maps the tables of all devices with MSI-X. `map` maps registers uncached, for good.
    pub fn map_tables(&mut self, space: &impl ConfigSpace, mut map: impl FnMut(PhysAddr, u64) -> Option<NonNull<u8>>) {
        for device in &mut self.devices {
            let Some(place) = MsixPlace::of(&config(space, PciAddress(device.address))) else { continue };
            let region = device.bars().iter().find(|bar| bar.index == place.bar && bar.io == 0);
            let fits = |bar: &&Bar| place.offset <= bar.bytes && place.bytes() <= bar.bytes - place.offset;
            let Some(region) = region.filter(fits) else { continue };
            if let Some(table) = map(PhysAddr::new(region.address + place.offset), place.bytes()) {
                device.msix_table = table.as_ptr().addr() as u64;
                device.msix_entries = place.entries.into();
            }
        }
    }

    /// Leaves out registers that lie where memory is, as firmware leaves them that has not placed a device: whoever drove it would be given
    /// that memory. Returns how many there were.
    pub fn leave_out(&mut self, is_memory: impl Fn(u64, u64) -> bool) -> usize {
        let mut left_out = 0;
        for device in &mut self.devices {
            let mut kept = 0;
            for at in 0..device.bars().len() {
                let bar = device.bars[at];
                let end = bar.address.checked_add(bar.bytes);
                if bar.io == 0 && end.is_none_or(|end| is_memory(bar.address, end)) {
                    left_out += 1;
                } else {
                    device.bars[kept] = bar;
                    kept += 1;
                }
            }
            device.bar_count = u32::try_from(kept).unwrap_or(0);
        }
        left_out
    }

    /// Says of registers that are smaller than a page whether whoever drives the device may have the whole page: nothing of another device
    /// is there, nor of the machine (`is_taken`), and there is no device of which that is not known.
    pub fn find_alone(&mut self, is_taken: impl Fn(u64, u64) -> bool) {
        let all_known = self.dropped == 0 && self.bridges == 0;
        for at in 0..self.devices.len() {
            for bar in 0..self.devices[at].bars().len() {
                let Bar { io, address, bytes, .. } = self.devices[at].bars[bar];
                let start = address - address % PAGE_SIZE;
                let Some(end) = start.checked_add(PAGE_SIZE).filter(|_| io == 0 && bytes < PAGE_SIZE) else { continue };
                let is_there = |other: &Bar| {
                    other.io == 0 && other.address < end && start < other.address.saturating_add(other.bytes)
                };
                let others = self.devices.iter().enumerate().filter(|(other, _)| *other != at);
                let is_shared = others.flat_map(|(_, device)| device.bars()).any(is_there);
                self.devices[at].bars[bar].alone = (all_known && !is_shared && !is_taken(start, end)).into();
            }
        }
    }

    /// Whether there is a device of this class ([`is_of_class`]) whose registers can be reached: they lie in memory, or are the ports of
    /// an IDE controller that can be a bus master and that may have disks.
    pub fn has_class(&self, class: u32) -> bool {
        let reachable = |device: &&PciDevice| {
            let is_ide = device.class >> 8 == CLASS_IDE;
            device.bars().iter().any(|bar| if bar.io == 0 { true } else { is_ide && self.ide && bar.index == 4 })
        };
        self.devices.iter().filter(reachable).any(|device| is_of_class(device.class, class))
    }
}

/// A whole configuration space.
fn config(space: &impl ConfigSpace, at: PciAddress) -> Config {
    let mut bytes = [0; CONFIG_BYTES];
    for (register, word) in (0_u8..=252).step_by(4).zip(bytes.chunks_mut(4)) {
        word.copy_from_slice(&space.read(at, register).to_le_bytes());
    }
    Config(bytes)
}

/// Header type 1 (PCI-to-PCI bridges) has two base address registers, which are not asked for their sizes.
fn is_bridge_with_registers(space: &impl ConfigSpace, at: PciAddress) -> bool {
    let is_bridge = space.read(at, 0x0c) >> 16 & 0x7f == 1;
    is_bridge && [0x10, 0x14].into_iter().any(|register| space.read(at, register) & !15 != 0)
}

fn read_device(space: &mut impl ConfigSpace, at: PciAddress) -> PciDevice {
    let [vendor, device] = halves(space.read(at, 0));
    let [line, pin, ..] = space.read(at, 0x3c).to_le_bytes();
    let mut found = PciDevice {
        address: at.0,
        vendor,
        device,
        class: space.read(at, 0x08) >> 8,
        interrupt_line: line,
        interrupt_pin: if pin <= 4 { pin } else { 0 },
        ..PciDevice::default()
    };
    // Header type 0 alone has six base address registers.
    if space.read(at, 0x0c) >> 16 & 0x7f == 0 {
        read_bars(space, at, &mut found);
    }
    found
}

fn read_bars(space: &mut impl ConfigSpace, at: PciAddress, found: &mut PciDevice) {
    let command = space.read(at, COMMAND) & 0xffff;
    // Decoding is off while the sizes are asked for, so the device answers at no wrong address, and the old state is restored.
    // Upper half: status bits, cleared by ones only.
    space.write(at, COMMAND, command & !(COMMAND_IO | COMMAND_MEMORY));
    let mut index = 0;
    let mut count = 0;
    while index < 6 {
        let register = 0x10 + 4 * index;
        let old = space.read(at, register);
        let (io, wide) = (old & 1 != 0, old & 7 == 4);
        let size = ask_size(space, at, register, old);
        let (mut address, mut mask) = if io {
            (u64::from(old & !3), u64::from(size & !3 | 0xffff_0000))
        } else {
            (u64::from(old & !15), u64::from(size & !15))
        };
        if wide && !io && index < 5 {
            let upper = space.read(at, register + 4);
            address |= u64::from(upper) << 32;
            mask |= u64::from(ask_size(space, at, register + 4, upper)) << 32;
        } else {
            mask |= 0xffff_ffff << 32;
        }
        let bytes = mask.wrapping_neg();
        // An unset register, or one without writable bits, is none.
        if address != 0 && size != 0 && bytes.is_power_of_two() {
            // Six at most, as the loop.
            if let Some(bar) = found.bars.get_mut(count) {
                *bar = Bar { index, io: io.into(), address, bytes, ..Bar::default() };
                count += 1;
            }
        }
        index += if wide { 2 } else { 1 };
    }
    found.bar_count = u32::try_from(count).unwrap_or(0);
    space.write(at, COMMAND, command);
}

fn ask_size(space: &mut impl ConfigSpace, at: PciAddress, register: u8, old: u32) -> u32 {
    space.write(at, register, u32::MAX);
    let size = space.read(at, register);
    space.write(at, register, old);
    size
}

fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Functions by address: their registers, and which bits of each can be written.
    #[derive(Default)]
    pub struct Bus(pub BTreeMap<u16, ([u32; 64], [u32; 64])>);

    impl ConfigSpace for Bus {
        fn read(&self, at: PciAddress, register: u8) -> u32 {
            self.0.get(&at.0).map_or(u32::MAX, |(words, _)| words[usize::from(register / 4)])
        }

        fn write(&mut self, at: PciAddress, register: u8, value: u32) {
            let decodes = self.read(at, COMMAND) & (COMMAND_IO | COMMAND_MEMORY) != 0;
            assert!(register == COMMAND || !decodes, "a register is asked while the device answers at it");
            if let Some((words, writable)) = self.0.get_mut(&at.0) {
                let at = usize::from(register / 4);
                words[at] = words[at] & !writable[at] | value & writable[at];
            }
        }

        fn bios_disks(&self) -> u8 {
            0
        }
    }

    #[test]
    fn functions_and_their_registers_are_found() {
        let mut bus = Bus::default();
        let mut nic = ([0; 64], [0; 64]);
        nic.0[0] = 0x100e_8086;
        nic.0[1] = 3;
        nic.1[1] = 7;
        nic.0[2] = 0x0200_0003;
        // Memory of 128 KiB, ports of 64 bytes, memory of 16 KiB above 4 GiB.
        (nic.0[4], nic.1[4]) = (0xfeb0_0000, 0xfffe_0000);
        (nic.0[5], nic.1[5]) = (0xc001, 0xffc0);
        (nic.0[6], nic.1[6]) = (0x0000_4004, 0xffff_c000);
        (nic.0[7], nic.1[7]) = (0x38, 0xffff_ffff);
        nic.0[15] = 0x0000_010b;
        bus.0.insert(3 << 3, nic);
        // A bridge with two functions, none of which has base addresses here.
        let mut bridge = ([0; 64], [0; 64]);
        bridge.0[0] = 0x7000_8086;
        bridge.0[3] = 0x0081_0000;
        (bridge.0[4], bridge.1[4]) = (0xfe00_0000, 0xff00_0000);
        bus.0.insert(1 << 3, bridge);
        bridge.0[15] = 0x0000_09ff;
        bus.0.insert(1 << 3 | 1, bridge);
        let before: Vec<_> = bus.0.values().map(|(words, _)| *words).collect();
        let found = PciDevices::scan(&mut bus);
        assert_eq!(before, bus.0.values().map(|(words, _)| *words).collect::<Vec<_>>(), "all is as it was");
        let [first, second, nic] = &found.devices[..] else { panic!("{found:?}") };
        assert_eq!([first.address, second.address, nic.address], [8, 9, 24]);
        assert_eq!([first.bar_count, second.bar_count, nic.bar_count], [0, 0, 3]);
        assert_eq!((first.interrupt_line, second.interrupt_line, second.interrupt_pin), (0, 0xff, 0));
        assert_eq!((nic.vendor, nic.device, nic.class), (0x8086, 0x100e, 0x02_0000));
        assert_eq!((nic.interrupt_line, nic.interrupt_pin), (11, 1));
        let bar = |index, io, address, bytes| Bar { index, io, address, bytes, ..Bar::default() };
        let bars = [bar(0, 0, 0xfeb0_0000, 0x2_0000), bar(1, 1, 0xc000, 64), bar(2, 0, 0x38_0000_4000, 0x4000)];
        assert_eq!(nic.bars(), bars);
        assert!(found.has_class(0x0200) && found.has_class(0x02ff) && !found.has_class(0x0100) && !found.ide);
        // An IDE controller's are ports.
        let with = |index, ide| PciDevices {
            ide,
            devices: [PciDevice {
                class: 0x01_0180,
                bar_count: 1,
                bars: [bar(index, 1, 0xc040, 16); 6],
                ..PciDevice::default()
            }]
            .into_iter()
            .collect(),
            ..PciDevices::default()
        };
        assert!(
            with(4, true).has_class(0x01ff) && !with(4, false).has_class(0x01ff) && !with(0, true).has_class(0x01ff)
        );
        // Registers in memory are nobody's; ports are no memory.
        let mut found = found;
        assert_eq!(found.leave_out(|start, end| start < 0xfec0_0000 && 0xfeb1_0000 < end), 1);
        assert_eq!(found.devices[2].bars(), &bars[1..]);
        assert_eq!(found.leave_out(|_, _| true), 1);
        assert_eq!(found.devices[2].bars(), &bars[1..2]);
        assert!(!found.has_class(0x0200), "without registers in memory");
    }

    /// One with registers of so many bytes, a power of two, at `address`.
    fn with_registers(address: u32, bytes: u32) -> ([u32; 64], [u32; 64]) {
        let mut device = ([0; 64], [0; 64]);
        (device.0[0], device.0[2]) = (0x2922_8086, 0x0106_0102);
        (device.0[9], device.1[9]) = (address, !(bytes - 1));
        device
    }

    #[test]
    fn small_registers_are_alone_where_nothing_else_is_in_their_page() {
        let abar = with_registers(0xf7d3_b800, 0x800);
        let alone = |others: &[([u32; 64], [u32; 64])], is_taken: fn(u64, u64) -> bool| {
            let mut bus = Bus::default();
            bus.0.insert(0xfa, abar);
            bus.0.extend((0_u16..).step_by(8).zip(others.iter().copied()));
            // A device of many functions.
            bus.0.insert(0xf8, with_registers(0, 0x10));
            bus.0.get_mut(&0xf8).expect("just put there").0[3] = 0x0080_0000;
            let mut found = PciDevices::scan(&mut bus);
            found.find_alone(is_taken);
            let found = found.devices.iter().find(|device| device.address == 0xfa).expect("the device");
            assert_eq!((found.bars()[0].address, found.bars()[0].bytes), (0xf7d3_b800, 0x800));
            found.bars()[0].alone == 1
        };
        let free = |_, _| false;
        assert!(alone(&[], free));
        assert!(alone(&[with_registers(0xf7d3_a000, 0x400), with_registers(0xf7d3_c000, 0x1000)], free));
        assert!(!alone(&[with_registers(0xf7d3_b000, 0x400)], free), "another device's");
        assert!(!alone(&[with_registers(0xf7d0_0000, 0x10_0000)], free), "in the middle of another device's");
        assert!(!alone(&[], |start, end| (start, end) == (0xf7d3_b000, 0xf7d3_c000)), "the machine's");
        let mut bridge = with_registers(0, 0x10);
        bridge.0[3] = 0x0001_0000;
        assert!(alone(&[bridge], free));
        bridge.0[4] = 0xf7d3_b400;
        assert!(!alone(&[bridge], free), "nobody knows what a bridge has there");
        let many = [with_registers(0, 0x10); MAX_PCI_DEVICES - 2];
        assert!(alone(&many[..20], free));
        let mut bus = Bus::default();
        bus.0.insert(0, abar);
        bus.0.extend((8_u16..).step_by(8).zip([with_registers(0, 0x10); MAX_PCI_DEVICES]));
        bus.0.insert(0x100, with_registers(0xf7d3_b000, 0x10));
        let mut found = PciDevices::scan(&mut bus);
        found.find_alone(free);
        assert!(found.dropped > 0 && found.devices[0].bars()[0].alone == 0, "one that was left out may be there");
        // Whole pages are nobody's business.
        let mut bus = Bus::default();
        bus.0.insert(0, with_registers(0xf7d3_b000, 0x1000));
        let mut found = PciDevices::scan(&mut bus);
        found.find_alone(free);
        assert_eq!(found.devices[0].bars()[0].alone, 0);
    }

    #[test]
    fn those_beyond_the_room_are_counted() {
        let mut bus = Bus::default();
        let mut device = ([0; 64], [0; 64]);
        device.0[0] = 0x1234;
        for number in 0..40 {
            bus.0.insert(number << 3, device);
        }
        let found = PciDevices::scan(&mut bus);
        assert_eq!((found.devices.len(), found.dropped), (MAX_PCI_DEVICES, 8));
    }
}
