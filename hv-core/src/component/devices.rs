//! The devices of components: registers mapped, interrupts routed.

use super::component::Device;
use super::load_error::LoadError;
use super::rings::count32;
use super::space::Space;
use crate::board::Devices;
use crate::board::pci::PciInfo;
use crate::memory::{Frames, MapError, PhysAddr};
use abi::component::{BARS, BarInfo, ComponentInfo, DeviceInfo, bits, layout};
use abi::limits::{MAX_DEVICES_PER_COMPONENT, Name, PAGE_SIZE};

/// Give a component the devices of its PCI class: registers mapped, interrupt routed (and masked for now).
pub(super) fn attach_devices(
    component: &Name,
    class: u32,
    space: &mut Space,
    frames: &mut Frames,
    hardware: &mut impl Devices,
    info: &mut ComponentInfo,
    devices: &mut heapless::Vec<Device, MAX_DEVICES_PER_COMPONENT>,
) -> Result<(), LoadError> {
    let mut index = 0;
    for pci in 0..hardware.pci_count() {
        let Some(found) = hardware.pci_device(pci).filter(|found| found.class >> 8 == class) else { continue };
        if index == MAX_DEVICES_PER_COMPONENT - 1 {
            break;
        }
        let at = layout::MMIO + index as u64 * layout::MMIO_STRIDE;
        let bars = map_bars(&found, at, space, frames).map_err(|_| LoadError::Memory(*component))?;
        let gsi = hardware.route_pci(pci);
        log::info!("{component}: PCI {}, {}", found.address, hardware.delivery(gsi));
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
        let _ = devices.push(Device { pci: Some(pci), gsi, bit: 1 << (bits::IRQ_SHIFT as usize + index) });
        index += 1;
    }
    info.device_count = count32(index);
    if index == 0 { Err(LoadError::Device(class)) } else { Ok(()) }
}

/// Map the memory regions of a device from `base` on, one behind the other. What shares a page with another device, or
/// with the table of MSI-X, is left out; what is too large is cut off.
fn map_bars(device: &PciInfo, base: u64, space: &mut Space, frames: &mut Frames) -> Result<[BarInfo; BARS], MapError> {
    let mut bars = [BarInfo { offset: 0, bytes: 0 }; BARS];
    let mut used = 0;
    for bar in &device.bars {
        let bytes = bar.bytes.min(layout::MMIO_STRIDE - PAGE_SIZE - used);
        if bar.bytes < PAGE_SIZE || bytes == 0 {
            continue;
        }
        let hole = device.msix.filter(|table| table.bar == bar.index).map(|table| table.pages());
        let hole = hole.map_or(bytes..bytes, |pages| pages.start.min(bytes)..pages.end.min(bytes));
        for part in [0..hole.start, hole.end..bytes] {
            let (at, from) = (base + used + part.start, PhysAddr::new(bar.address + part.start));
            space.map_range(frames, at, from, part.end - part.start, Space::DEVICE)?;
        }
        if let (Some(info), Ok(offset), Ok(mapped)) =
            (bars.get_mut(usize::from(bar.index)), u32::try_from(used), u32::try_from(bytes))
        {
            *info = BarInfo { offset, bytes: mapped };
        }
        used += bytes;
    }
    Ok(bars)
}
