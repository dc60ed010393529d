//! The devices of components: registers mapped, interrupts routed.

use super::count32;
use super::load_error::LoadError;
use super::space::Space;
use crate::board::Devices;
use crate::board::pci::PciInfo;
use crate::log::say;
use crate::memory::{Frames, MapError, PhysAddr};
use abi::component::{BARS, BarInfo, ComponentInfo, DeviceInfo, bits, layout};
use abi::limits::{MAX_DEVICES_PER_COMPONENT, Name, PAGE_SIZE};
use abi::log::Record;
use abi::pci::{Address, CLASS_IDE, is_of_class};

/// A device of a component.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Index in the platform's table of PCI devices, `None` for the interrupt of its ports.
    pub pci: Option<usize>,
    /// Global system interrupt, or number of a message behind those; `None` without an interrupt.
    pub gsi: Option<u32>,
    /// Notification bit.
    pub bit: u64,
}

/// What a component drives.
#[derive(Default)]
pub(super) struct Attached {
    pub devices: heapless::Vec<Device, MAX_DEVICES_PER_COMPONENT>,
    /// Ports that these answer at.
    pub ports: PortRanges,
}

/// Give a component the devices of its PCI class: registers mapped, interrupt routed (and masked for now).
pub(super) fn attach_devices(
    component: &Name,
    class: u32,
    space: &mut Space,
    frames: &mut Frames,
    hardware: &mut impl Devices,
    info: &mut ComponentInfo,
) -> Result<Attached, LoadError> {
    let mut attached = Attached::default();
    let mut index = 0;
    for pci in 0..hardware.pci_count() {
        let Some(found) = hardware.pci_device(pci).filter(|found| is_of_class(found.class, class)) else { continue };
        if index == MAX_DEVICES_PER_COMPONENT - 1 {
            break;
        }
        let at = layout::MMIO + index as u64 * layout::MMIO_STRIDE;
        let bars = map_bars(&found, at, space, frames).map_err(|_| LoadError::Memory(*component))?;
        give_ports(&found, &mut attached.ports);
        let gsi = hardware.route_pci(pci);
        say(Record::Device { name: *component, address: Address(found.address.0), delivery: hardware.delivery(gsi) });
        // Once more, for its state now.
        let config = hardware.pci_device(pci).map_or(found.config, |found| found.config);
        info.devices[index] = DeviceInfo {
            vendor: found.vendor,
            device: found.device,
            class: found.class,
            address: found.address.0.into(),
            reserved: 0,
            bars,
            config,
        };
        let _ = attached.devices.push(Device { pci: Some(pci), gsi, bit: 1 << (bits::IRQ_SHIFT as usize + index) });
        index += 1;
    }
    info.device_count = count32(index);
    if index == 0 { Err(LoadError::Device(class)) } else { Ok(attached) }
}

/// Ports that a component's devices answer at: the first, and how many.
pub type PortRanges = heapless::Vec<(u16, u16), 16>;

/// Below this are the ports of the machine itself, whatever a base address register says.
const DEVICE_PORTS: u64 = 0x1000;

/// Give a component the ports of an IDE controller: those of its base address registers, and, for a channel that is not in native mode, the ones
/// that it has since the PC/AT ("PCI IDE Controller Specification" 1.0, section 2). All other devices that are driven have their
/// registers in memory.
fn give_ports(device: &PciInfo, ports: &mut PortRanges) {
    const CHANNELS: [(u32, [(u16, u16); 2]); 2] =
        [(1 << 0, [(0x1f0, 8), (0x3f6, 1)]), (1 << 2, [(0x170, 8), (0x376, 1)])];
    if device.class >> 8 != CLASS_IDE {
        return;
    }
    for bar in device.ports.iter().filter(|bar| bar.address >= DEVICE_PORTS && bar.bytes <= 256) {
        if let (Ok(first), Ok(count)) = (u16::try_from(bar.address), u16::try_from(bar.bytes)) {
            // Without room the driver is refused the port, and says so.
            let _ = ports.push((first, count));
        }
    }
    for (native, legacy) in CHANNELS {
        if device.class & native == 0 {
            legacy.into_iter().for_each(|range| {
                let _ = ports.push(range);
            });
        }
    }
}

/// A part of a component's addresses where registers are mapped.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// From the first of the device's addresses on.
    at: u64,
    from: PhysAddr,
    bytes: u64,
}

/// Map the memory regions of a device from `base` on.
fn map_bars(device: &PciInfo, base: u64, space: &mut Space, frames: &mut Frames) -> Result<[BarInfo; BARS], MapError> {
    let (parts, bars) = lay_out(device);
    for Part { at, from, bytes } in parts {
        space.map_range(frames, base + at, from, bytes, Space::DEVICE)?;
    }
    Ok(bars)
}

/// Where the memory regions of a device go, one behind the other. What shares a page with another device, or
/// with the table of MSI-X, is left out; what is too large is cut off. Smaller ones are as far from the beginning of a page as they are
/// in the machine.
fn lay_out(device: &PciInfo) -> (heapless::Vec<Part, { 2 * BARS }>, [BarInfo; BARS]) {
    let mut parts = heapless::Vec::new();
    let mut bars = [BarInfo { offset: 0, bytes: 0 }; BARS];
    let mut used = 0;
    for bar in &device.bars {
        let table = device.msix.filter(|table| table.bar == bar.index).map(|table| table.pages());
        let is_small = bar.bytes < PAGE_SIZE;
        // A region is a power of two and lies at a multiple of its size, so a small one lies in one page.
        let within = if is_small { bar.address % PAGE_SIZE } else { 0 };
        let room = layout::MMIO_STRIDE - PAGE_SIZE - used;
        let bytes = if is_small { PAGE_SIZE } else { bar.bytes }.min(room);
        if bytes == 0 || is_small && (bar.alone == 0 || table.is_some()) {
            continue;
        }
        let hole = table.map_or(bytes..bytes, |pages| pages.start.min(bytes)..pages.end.min(bytes));
        for part in [0..hole.start, hole.end..bytes].into_iter().filter(|part| !part.is_empty()) {
            let from = PhysAddr::new(bar.address - within + part.start);
            // Two for a region at most.
            let _ = parts.push(Part { at: used + part.start, from, bytes: part.end - part.start });
        }
        if let (Some(info), Ok(offset), Ok(mapped)) =
            (bars.get_mut(usize::from(bar.index)), u32::try_from(used + within), u32::try_from(bytes.min(bar.bytes)))
        {
            *info = BarInfo { offset, bytes: mapped };
        }
        used += bytes;
    }
    (parts, bars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::boot::Bar;
    use abi::pci::{CONFIG_BYTES, Config, MsixPlace};
    use base::pci::PciAddress;

    fn ports(class: u32, bars: &[(u64, u64)]) -> Vec<(u16, u16)> {
        let bar = |&(address, bytes): &(u64, u64)| Bar { index: 4, io: 1, address, bytes, ..Bar::default() };
        let device = PciInfo {
            vendor: 0x8086,
            device: 0x7010,
            class,
            address: PciAddress(9),
            bars: heapless::Vec::new(),
            ports: bars.iter().map(bar).collect(),
            msix: None,
            config: Config([0; CONFIG_BYTES]),
        };
        let mut ports = PortRanges::new();
        give_ports(&device, &mut ports);
        ports.to_vec()
    }

    #[test]
    fn only_ide_controllers_have_ports_and_none_of_the_machine() {
        let legacy = [(0x1f0, 8), (0x3f6, 1), (0x170, 8), (0x376, 1)];
        assert_eq!(ports(0x01_0180, &[(0xc040, 16)])[..], [&[(0xc040, 16)][..], &legacy].concat());
        // A channel in native mode has its own.
        assert_eq!(ports(0x01_0181, &[])[..], legacy[2..]);
        assert_eq!(ports(0x01_0185, &[(0xc000, 8), (0xc010, 4)]), [(0xc000, 8), (0xc010, 4)]);
        // What a base address register says of the machine's ports, or beyond all of them, is not believed.
        assert_eq!(ports(0x01_0185, &[(0xcf8, 8), (0x20, 2), (0x1_0000, 8), (0x2000, 0x1000)]), []);
        assert_eq!([ports(0x01_0000, &[(0xc000, 64)]), ports(0x02_0000, &[(0xc000, 64)])], [vec![], vec![]]);
    }

    #[test]
    fn small_regions_have_pages_that_are_theirs_alone_and_others_none() {
        let bar = |index, address, bytes, alone| Bar { index, address, bytes, alone, ..Bar::default() };
        let with = |bars: &[Bar], msix| {
            lay_out(&PciInfo {
                vendor: 0x8086,
                device: 0x2922,
                class: 0x01_0601,
                address: PciAddress(0xfa),
                bars: bars.iter().copied().collect(),
                ports: heapless::Vec::new(),
                msix,
                config: Config([0; CONFIG_BYTES]),
            })
        };
        let part = |at, from, bytes| Part { at, from: PhysAddr::new(from), bytes };
        // Intel's ABAR of 2 KiB in the middle of a page, behind a region of two pages, and one of another device's page.
        let abar = bar(5, 0xf7d3_b800, 0x800, 1);
        let (parts, bars) = with(&[bar(0, 0xf000_0000, 0x2000, 0), bar(2, 0xf7d4_0000, 0x400, 0), abar], None);
        assert_eq!(parts, [part(0, 0xf000_0000, 0x2000), part(0x2000, 0xf7d3_b000, 0x1000)]);
        assert_eq!([bars[0].offset, bars[0].bytes, bars[2].bytes], [0, 0x2000, 0]);
        assert_eq!([bars[5].offset, bars[5].bytes], [0x2800, 0x800]);
        let (parts, bars) = with(&[bar(5, 0xf7d3_b800, 0x800, 0)], None);
        assert!(parts.is_empty() && bars[5].bytes == 0);
        // The core's table of MSI-X lies in it.
        let (parts, bars) = with(&[abar], Some(MsixPlace { bar: 5, offset: 0x400, entries: 4 }));
        assert!(parts.is_empty() && bars[5].bytes == 0);
        // There is no more room.
        let whole = layout::MMIO_STRIDE - PAGE_SIZE;
        let (parts, bars) = with(&[bar(0, 1 << 32, 1 << 24, 0), abar], None);
        assert_eq!((parts, bars[5].bytes), ([part(0, 1 << 32, whole)].into_iter().collect(), 0));
    }
}
