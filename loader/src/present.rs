//! Which components of the manifest a machine has work for. Pure but for what it says.

use crate::manifest::Manifest;
use crate::pci::PciDevices;
use crate::pool::Out;
use abi::limits::MAX_COMPONENTS;
use abi::manifest::{self, ANY, CORE, NONE, component_flags};
use abi::service::Service;
use abi::swap_disk::REQUESTS;

/// Which components there is work for, and what their numbers are without the others.
pub struct Present {
    /// By its number in the manifest: its number among those that are there.
    numbers: heapless::Vec<Option<u32>, MAX_COMPONENTS>,
}

impl Present {
    /// Those of the manifest on a machine with these devices, and where VMs go that are `out`.
    pub fn new(manifest: &Manifest<'_>, pci: &PciDevices, out: Out) -> Present {
        let mut next = 0;
        let number = |(index, entry): (u32, &manifest::Component)| {
            let optional = entry.flags & component_flags::OPTIONAL != 0;
            if lacks_device(entry, pci) {
                log::info!("'{}' is left out: there is no device for it", entry.name);
                return None;
            }
            if optional && keeps_vms(manifest, index) {
                let why = match out {
                    Out::Nowhere => Some("all VMs fit into memory (pool= gives it some)"),
                    Out::Disks if !has_disks(manifest, pci, index) => {
                        Some("with pool=0 it needs disks, and there are none")
                    }
                    Out::Disks | Out::Pool => None,
                };
                if let Some(why) = why {
                    log::info!("'{}' is left out: {why}", entry.name);
                    return None;
                }
            }
            next += 1;
            Some(next - 1)
        };
        Present { numbers: (0..).zip(manifest.components).map(number).collect() }
    }

    /// Whether the one at this place of the manifest is there.
    pub fn is(&self, index: usize) -> bool {
        self.numbers.get(index).is_some_and(Option::is_some)
    }

    /// A ring with its ends' numbers; `None` when one of them is not there.
    pub fn ring(&self, ring: &manifest::Ring) -> Option<manifest::Ring> {
        let end = |end: u32| match end {
            CORE => Some(CORE),
            number => *self.numbers.get(usize::try_from(number).ok()?)?,
        };
        Some(manifest::Ring { producer: end(ring.producer)?, consumer: end(ring.consumer)?, ..*ring })
    }

    /// The number of a component that serves the VMs of an image; any where it is not there.
    pub fn number(&self, number: u16) -> u16 {
        let there = self.numbers.get(usize::from(number)).copied().flatten();
        there.and_then(|number| u16::try_from(number).ok()).unwrap_or(ANY)
    }
}

/// Whether a component is left out because there is no device for it.
fn lacks_device(entry: &manifest::Component, pci: &PciDevices) -> bool {
    let optional = entry.flags & component_flags::OPTIONAL != 0;
    optional && entry.pci_class != NONE && !pci.has_class(entry.pci_class)
}

/// Whether somebody serves swap regions to a component.
fn has_disks(manifest: &Manifest<'_>, pci: &PciDevices, component: u32) -> bool {
    let asks = |ring: &&manifest::Ring| ring.producer == component && ring.name.as_str() == REQUESTS;
    let servers = manifest.rings.iter().filter(asks).filter_map(|ring| usize::try_from(ring.consumer).ok());
    servers.filter_map(|server| manifest.components.get(server)).any(|server| !lacks_device(server, pci))
}

/// Whether the core gives a component VMs to keep that go out.
fn keeps_vms(manifest: &Manifest<'_>, component: u32) -> bool {
    let swap = Service::Swap.raw();
    manifest.rings.iter().any(|ring| ring.consumer == component && ring.producer == CORE && ring.service == swap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest_test::{component, ring};
    use abi::boot;

    #[test]
    fn who_has_no_device_is_left_out_and_the_others_move_up() {
        let mut components = [component("netmux", 0), component("diskmux", 1), component("pager", 2)];
        (components[1].pci_class, components[1].flags) = (0x01ff, component_flags::OPTIONAL);
        let rings = [ring("a", CORE, 0), ring("b", 1, 2), ring("c", 2, 1), ring("d", 2, CORE), ring("e", 0, 2)];
        let manifest =
            Manifest { components: &components, rings: &rings, images: &[], modules: &[], tenants: &[], defaults: "" };
        let ends = |present: &Present| -> Vec<(u32, u32)> {
            rings.iter().filter_map(|ring| present.ring(ring)).map(|ring| (ring.producer, ring.consumer)).collect()
        };
        let without = Present::new(&manifest, &PciDevices::default(), Out::Pool);
        assert_eq!([0, 1, 2, 3].map(|index| without.is(index)), [true, false, true, false]);
        assert_eq!(ends(&without), [(CORE, 0), (1, CORE), (0, 1)]);
        assert_eq!([0, 1, 2, ANY].map(|number| without.number(number)), [0, ANY, 1, ANY]);
        let device = boot::PciDevice { class: 0x01_0802, bar_count: 1, ..boot::PciDevice::default() };
        let with = Present::new(
            &manifest,
            &PciDevices { devices: [device].into_iter().collect(), ..PciDevices::default() },
            Out::Pool,
        );
        assert_eq!([0, 1, 2].map(|index| with.is(index)), [true; 3]);
        assert_eq!(ends(&with), rings.map(|ring| (ring.producer, ring.consumer)));
    }

    #[test]
    fn who_keeps_vms_that_are_out_is_left_out_where_none_are() {
        let mut components = [component("swap", 0), component("pager", 1)];
        let mut rings =
            [ring("a", CORE, 0), ring("b", 0, CORE), ring("c", CORE, 1), ring("d", 1, CORE), ring("e", 0, 1)];
        rings[0].service = Service::Swap.raw();
        rings[1].service = Service::Swap.raw();
        rings[4].data_pages = 64;
        let there = |components: &[manifest::Component], out| {
            let manifest =
                Manifest { components, rings: &rings, images: &[], modules: &[], tenants: &[], defaults: "" };
            let present = Present::new(&manifest, &PciDevices::default(), out);
            // What lies behind a ring is taken only for one that is there.
            let data: u32 = rings.iter().filter_map(|ring| present.ring(ring)).map(|ring| ring.data_pages).sum();
            ([0, 1].map(|index| present.is(index)), data)
        };
        assert_eq!(there(&components, Out::Nowhere), ([true, true], 64), "it is not optional");
        components.iter_mut().for_each(|component| component.flags = component_flags::OPTIONAL);
        assert_eq!(there(&components, Out::Pool), ([true, true], 64));
        assert_eq!(there(&components, Out::Nowhere), ([false, true], 0));
        assert_eq!(there(&components, Out::Disks), ([false, true], 0), "there are none");
    }

    #[test]
    fn without_a_pool_vms_are_kept_where_there_are_disks() {
        let mut components = [component("diskmux", 0), component("swap", 1)];
        components.iter_mut().for_each(|component| component.flags = component_flags::OPTIONAL);
        components[0].pci_class = 0x01ff;
        let mut rings = [ring("a", CORE, 1), ring(REQUESTS, 1, 0)];
        rings[0].service = Service::Swap.raw();
        let manifest =
            Manifest { components: &components, rings: &rings, images: &[], modules: &[], tenants: &[], defaults: "" };
        let device = boot::PciDevice { class: 0x01_0802, bar_count: 1, ..boot::PciDevice::default() };
        let disks = PciDevices { devices: [device].into_iter().collect(), ..PciDevices::default() };
        let kept = |pci: &PciDevices, out| Present::new(&manifest, pci, out).is(1);
        assert!(kept(&disks, Out::Disks) && kept(&disks, Out::Pool) && !kept(&disks, Out::Nowhere));
        assert!(!kept(&PciDevices::default(), Out::Disks) && kept(&PciDevices::default(), Out::Pool));
        // Disks that nobody serves to it are none.
        rings[1] = ring("other", 1, 0);
        let manifest =
            Manifest { components: &components, rings: &rings, images: &[], modules: &[], tenants: &[], defaults: "" };
        assert!(!Present::new(&manifest, &disks, Out::Disks).is(1));
    }
}
