//! The component's controllers: which driver each of them has, and how it is started.

use crate::disks::{MAX_CONTROLLERS, MAX_DISKS};
use crate::drivers::ahci::{self, Ahci};
use crate::drivers::ide::{self, Ide, Ports};
use crate::drivers::nvme::{self, Nvme};
use crate::drivers::virtio::{self, VirtioBlk};
use crate::drivers::{Controller, Done, Geometry, Request, Room, Sleep};
use abi::component::DeviceInfo;
use abi::pci::{CLASS_AHCI, CLASS_IDE, CLASS_NVME};
use component::virtio::Structures;
use component::{Component, Mmio, Once, now, port_in, port_out, wait};

/// What the drivers have of the DMA memory: enough for as many disks as are used, whatever drives them.
pub const BYTES: usize = MAX_DISKS * ahci::OWN_BYTES;

/// The controllers themselves.
static CONTROLLERS: Once<[Option<Any>; MAX_CONTROLLERS]> = Once::new([const { None }; MAX_CONTROLLERS]);

/// The controllers that there are drivers for. They lie in one place, [`CONTROLLERS`], for good: none is copied around.
#[allow(clippy::large_enum_variant)]
pub enum Any {
    /// AHCI.
    Ahci(Ahci<Mmio, Clock>),
    /// NVMe.
    Nvme(Nvme<Mmio>),
    /// virtio-blk.
    Virtio(VirtioBlk<Mmio>),
    /// IDE.
    Ide(Ide<OwnPorts>),
}

/// Calls the same method of whichever it is.
macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self {
            Any::Ahci($inner) => $call,
            Any::Nvme($inner) => $call,
            Any::Virtio($inner) => $call,
            Any::Ide($inner) => $call,
        }
    };
}

impl Controller for Any {
    fn driver(&self) -> u16 {
        each!(self, inner => inner.driver())
    }

    fn disks(&self) -> &[Geometry] {
        each!(self, inner => inner.disks())
    }

    fn run(&self) -> usize {
        each!(self, inner => inner.run())
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        each!(self, inner => Controller::start(inner, tag, request))
    }

    fn done(&mut self) -> Option<Done> {
        each!(self, inner => inner.done())
    }

    fn interrupt(&mut self) {
        each!(self, inner => inner.interrupt());
    }

    fn is_polled(&self) -> bool {
        each!(self, inner => inner.is_polled())
    }
}

/// The component's ports, by way of the core.
pub struct OwnPorts;

impl Ports for OwnPorts {
    fn read8(&mut self, port: u16) -> u8 {
        port_in(port, 1).map_or(0xff, |value| value.to_le_bytes()[0])
    }

    fn read16(&mut self, port: u16) -> u16 {
        let [low, high, ..] = port_in(port, 2).unwrap_or(0xffff).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    fn write8(&mut self, port: u16, value: u8) {
        // Without the port, what is read there is all ones, and there is no drive.
        let _ = port_out(port, 1, value.into());
    }

    fn write32(&mut self, port: u16, value: u32) {
        let _ = port_out(port, 4, value);
    }
}

/// The core's clock.
pub struct Clock {
    hz: u64,
}

impl Sleep for Clock {
    fn sleep(&mut self, microseconds: u32) {
        let until = now().saturating_add((u64::from(microseconds).saturating_mul(self.hz) / 1_000_000).max(1));
        while now() < until {
            wait(0, until, 0);
        }
    }
}

/// Why a controller is not used.
enum Refusal {
    /// There is no driver for it.
    Unknown,
    /// It could not be started.
    Failed(&'static str),
    /// Likewise, with what a virtio device said.
    Virtio(component::virtio::StartError),
}

/// Starts the drivers of all controllers. Those that could be started, in order, and the number of the device of each.
///
/// # Panics
/// The second time.
pub fn start(
    component: &Component,
    mut room: Room,
) -> (heapless::Vec<&'static mut Any, MAX_CONTROLLERS>, heapless::Vec<u32, MAX_CONTROLLERS>) {
    let Some(places) = CONTROLLERS.take() else { panic!("the controllers were started") };
    let (mut started, mut devices) = (heapless::Vec::new(), heapless::Vec::new());
    let mut places = places.iter_mut();
    for (index, device) in (0_u32..).zip(component.devices()) {
        let DeviceInfo { vendor, device: id, class, .. } = device;
        match start_one(component, index, device, &mut room) {
            Ok(controller) => {
                // As many as devices at most.
                let Some(place) = places.next() else { break };
                let _ = started.push(place.insert(controller));
                let _ = devices.push(index);
            }
            Err(Refusal::Unknown) => {
                log::warn!("disk controller {vendor:04x}:{id:04x}, class {class:06x}, has no driver here");
            }
            Err(Refusal::Failed(why)) => log::error!("disk controller {vendor:04x}:{id:04x} is not used: {why}"),
            Err(Refusal::Virtio(why)) => log::error!("disk controller {vendor:04x}:{id:04x} is not used: {why}"),
        }
    }
    (started, devices)
}

fn start_one(component: &Component, index: u32, device: &DeviceInfo, room: &mut Room) -> Result<Any, Refusal> {
    const FULL: Refusal = Refusal::Failed("there is no memory left for its driver");
    let DeviceInfo { vendor, device: id, class, config, .. } = device;
    let region = |bar| component.mmio(usize::try_from(index).ok()?, bar);
    let mut clock = Clock { hz: component.info().tsc_hz };
    if *vendor == virtio::VENDOR && virtio::DEVICES.contains(id) {
        let structures = Structures::find(config, region)
            .ok_or(Refusal::Failed("it does not speak virtio 1: let QEMU not disable its modern form"))?;
        let own = room.take(virtio::OWN_BYTES, PAGE).ok_or(FULL)?;
        let sleep = |microseconds| clock.sleep(microseconds);
        let disk = VirtioBlk::start(structures, room.memory, room.physical, own, sleep).map_err(Refusal::Virtio)?;
        return Ok(Any::Virtio(disk));
    }
    match *class {
        class if class >> 8 == CLASS_IDE => {
            let own = room.take(ide::OWN_BYTES, PAGE).ok_or(FULL)?;
            let sleep = |microseconds| clock.sleep(microseconds);
            let controller = Ide::start(config, OwnPorts, room.memory, room.physical, own, sleep);
            controller.map(Any::Ide).ok_or(Refusal::Failed("it is no bus master that reaches the memory of diskmux"))
        }
        CLASS_AHCI => {
            let registers = region(ahci::BAR).ok_or(Refusal::Failed(NO_REGISTERS))?;
            Ahci::start(registers, room, clock).map(Any::Ahci).map_err(Refusal::Failed)
        }
        CLASS_NVME => {
            let registers = region(nvme::BAR).ok_or(Refusal::Failed(NO_REGISTERS))?;
            Nvme::start(registers, config, room, &mut clock).map(Any::Nvme).map_err(Refusal::Failed)
        }
        _ => Err(Refusal::Unknown),
    }
}

const PAGE: usize = 4096;
const NO_REGISTERS: &str = "its registers share a page of memory with what is not its own, or are not in memory";
