//! The component: its controllers, its rings, its loop.

use crate::disks::{Disks, Host, MAX_CONTROLLERS, WAITED_BYTES};
use crate::drivers::ide::{Ide, Ports};
use crate::drivers::virtio::{self, VirtioBlk};
use crate::drivers::{Controller, Done, Geometry, Request, ide};
use crate::guests::{self, Guests};
use crate::scrub;
use crate::service::Service;
use crate::sets::{DIRECTORY_BYTES, Sets};
use crate::store::{self, Store};
use crate::uses::{MAX_ENTRIES, Uses};
use abi::component::{DeviceInfo, bits};
use abi::disk::{DiskReply, DiskRequest};
use abi::disk_service::{DiskCommand, DiskEvent};
use abi::guest::pending;
use abi::message::{BadMessage, Message};
use abi::pci::CLASS_IDE;
use abi::vm::{Seat, VmId};
use component::virtio::Structures;
use component::{
    Complaints, Component, Inbox, Mmio, Once, Outbox, VmDisk, irq_ack, now, port_in, port_out, raise, wait,
};

/// What each controller's driver has of the DMA memory.
const OWN_BYTES: usize = 4096;
/// DMA memory that is needed: the drivers' own, the blocks that are waited for, and those of a scrub and of the store.
const DMA_BYTES: usize = MAX_CONTROLLERS * OWN_BYTES + WAITED_BYTES + scrub::BYTES + store::BYTES;
/// How often a second polled controllers are asked while something is under way.
const ASKS: u64 = 10_000;

/// The directory of the set in use.
static DIRECTORY: Once<[u8; DIRECTORY_BYTES]> = Once::new([0; DIRECTORY_BYTES]);
/// How many VMs have each virtual disk.
static USES: Once<[u16; MAX_ENTRIES]> = Once::new([0; MAX_ENTRIES]);

/// The controllers that there are drivers for.
enum Any {
    Virtio(VirtioBlk<Mmio>),
    Ide(Ide<OwnPorts>),
}

/// Calls the same method of whichever it is.
macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self {
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

    fn start(&mut self, tag: u16, request: Request) -> bool {
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
struct OwnPorts;

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

/// The core, as the disks need it.
struct Core {
    hz: u64,
    /// The devices of the controllers.
    devices: heapless::Vec<u32, MAX_CONTROLLERS>,
}

impl Core {
    /// The notification bits of all controllers' interrupts.
    fn mask(&self) -> u64 {
        self.devices.iter().fold(0, |mask, device| mask | 1 << (bits::IRQ_SHIFT + device))
    }

    /// Which controllers' interrupts are among these notification bits.
    fn controllers(&self, news: u64) -> u32 {
        let came = |device: &u32| news >> (bits::IRQ_SHIFT + device) & 1 != 0;
        let numbered = self.devices.iter().enumerate().filter(|(_, device)| came(device));
        numbered.fold(0, |all, (number, _)| all | 1 << number)
    }
}

impl Host for Core {
    fn now(&mut self) -> u64 {
        now()
    }

    fn hz(&self) -> u64 {
        self.hz
    }

    fn sleep(&mut self, until: u64) -> u32 {
        self.controllers(wait(self.mask(), until, 0))
    }

    fn acknowledge(&mut self, controllers: u32) {
        for (_, &device) in self.devices.iter().enumerate().filter(|(number, _)| controllers >> number & 1 != 0) {
            // It fails only for a device that we do not have.
            let _ = irq_ack(device);
        }
    }
}

/// A function that sleeps for microseconds.
fn sleep(hz: u64) -> impl FnMut(u32) {
    move |microseconds| {
        let until = now().saturating_add((u64::from(microseconds).saturating_mul(hz) / 1_000_000).max(1));
        while now() < until {
            wait(0, until, 0);
        }
    }
}

/// Finds disks and sets, opens the set, and answers questions about them, for ever.
///
/// # Panics
/// When the manifest gives the component too little DMA memory, or no rings with the monitor.
pub fn run(component: &Component) -> ! {
    let info = component.info();
    let dma = component.dma().filter(|dma| dma.memory.len() >= DMA_BYTES);
    let Some(dma) = dma else { panic!("too little DMA memory: give diskmux {DMA_BYTES} bytes in system.toml") };
    let mut controllers = heapless::Vec::new();
    let mut core = Core { hz: info.tsc_hz, devices: heapless::Vec::new() };
    for (index, device) in (0_u32..).zip(component.devices()) {
        let own = controllers.len() * OWN_BYTES;
        let DeviceInfo { vendor, device: id, class, config, .. } = device;
        let Ok(at) = usize::try_from(index) else { continue };
        let started = if *vendor == virtio::VENDOR && virtio::DEVICES.contains(id) {
            let Some(structures) = Structures::find(config, |bar| component.mmio(at, bar)) else {
                log::error!("virtio-blk: it does not speak virtio 1: let QEMU not disable its modern form");
                continue;
            };
            match VirtioBlk::start(structures, dma.memory, dma.physical, own, sleep(info.tsc_hz)) {
                Ok(disk) => Any::Virtio(disk),
                Err(error) => {
                    log::error!("virtio-blk: {error}");
                    continue;
                }
            }
        } else if class >> 8 == CLASS_IDE {
            match Ide::start(config, OwnPorts, dma.memory, dma.physical, own, sleep(info.tsc_hz)) {
                Some(controller) => Any::Ide(controller),
                None => {
                    log::warn!("IDE controller {vendor:04x}:{id:04x} is no bus master and is not used");
                    continue;
                }
            }
        } else {
            log::warn!("disk controller {vendor:04x}:{id:04x}, class {class:06x}, has no driver here");
            continue;
        };
        // As many as devices at most.
        if controllers.push(started).is_ok() {
            let _ = core.devices.push(index);
        }
    }
    let waited = MAX_CONTROLLERS * OWN_BYTES;
    let scrubs = waited + WAITED_BYTES;
    let mut disks = Disks::new(controllers, dma.memory, waited, core);
    log::info!("incarnation={} disks={}", info.incarnation, disks.list().len());
    let Some(directory) = DIRECTORY.take() else { panic!("the directory was taken") };
    let mut sets = Sets::new(directory);
    // What came to the predecessor was perhaps never acknowledged.
    disks.interrupts(!0);
    sets.find(&mut disks);
    let Some(uses) = USES.take() else { panic!("the uses of disks were taken") };
    let (from_core, to_core) = component.service(abi::service::Service::Disk);
    let guests = Guests::new(&mut component.tables(), Uses::new(uses));
    let desk = Desk {
        service: Service::new(sets, Store::new(scrubs + scrub::BYTES), guests, scrubs),
        vms: Vms { component, to_core },
        complaints: Complaints::new(info.tsc_hz),
    };
    serve(component, &mut disks, desk, from_core)
}

/// The core and the VMs, as guests are served by way of them.
struct Vms<'c> {
    component: &'c Component,
    to_core: Outbox,
}

impl guests::Machine for Vms<'_> {
    fn disk(&mut self, seat: Seat) -> Option<VmDisk> {
        self.component.vm_disk(seat)
    }

    fn raise(&mut self, vm: VmId) {
        // It fails for a VM that has ended.
        let _ = raise(vm, pending::DISK);
    }

    fn tell(&mut self, command: DiskCommand) {
        // The core empties a full ring at once, so none is owed.
        let _ = self.to_core.send(&command.into());
    }
}

/// What the component does for the core and the monitor.
struct Desk<'c> {
    service: Service,
    vms: Vms<'c>,
    complaints: Complaints,
}

impl Desk<'_> {
    /// Answers a question of the monitor; `None` when it is answered later, or never.
    fn answer(&mut self, message: &Message, disks: &Disks<Any, Core>) -> Option<DiskReply> {
        let sets = &self.service.sets;
        Some(match DiskRequest::try_from(message) {
            Ok(DiskRequest::Disk { index }) => sets.disk(index, disks),
            Ok(DiskRequest::Set { index }) => sets.set(index),
            Ok(DiskRequest::Problem { set, index }) => sets.problem(set, index),
            Ok(DiskRequest::Entry { index }) => sets.entry_reply(index),
            Ok(DiskRequest::Scrub { index }) if self.service.begin_scrub(message.id, index, now()) => return None,
            Ok(DiskRequest::Scrub { .. }) => DiskReply::None,
            Err(bad) => {
                self.complain(&bad);
                return None;
            }
        })
    }

    fn complain(&mut self, bad: &BadMessage) {
        if let Some(suppressed) = self.complaints.pass(now()) {
            log::warn!("dropped a {bad}; {suppressed} such lines suppressed");
        }
    }

    /// The core has said something.
    fn hear(&mut self, message: &Message) {
        match DiskEvent::try_from(message) {
            Ok(event) => self.service.guests.hear(event, &self.service.sets, &mut self.vms),
            Err(bad) => self.complain(&bad),
        }
    }
}

fn serve(component: &Component, disks: &mut Disks<Any, Core>, mut desk: Desk<'_>, mut from_core: Inbox) -> ! {
    let hz = component.info().tsc_hz;
    let (mut questions, mut answers) = (component.inbox("monitor-diskmux"), component.outbox("diskmux-monitor"));
    let awake = questions.doorbell | from_core.doorbell | bits::KICK | disks.host().mask();
    loop {
        let mut bell = 0;
        let mut all_read = questions.drain(|message| {
            if let Some(reply) = desk.answer(message, disks) {
                // Who asks without reading gets no answer.
                let _ = answers.send(&Message { id: message.id, ..Message::from(reply) });
                bell = answers.doorbell;
            }
        });
        all_read &= from_core.drain(|message| desk.hear(message));
        component.take_kicks(|seat| desk.service.guests.kicked(seat));
        let (more, scrubbed) = desk.service.step(disks, &mut desk.vms);
        if let Some(reply) = scrubbed {
            let _ = answers.send(&reply);
            bell = answers.doorbell;
        }
        let until = match (desk.service.is_busy(), all_read && !more) {
            (_, false) => 0,
            (true, true) if disks.is_polled() => now().saturating_add(hz / ASKS),
            // For the look at the time that a disk takes.
            (true, true) => now().saturating_add(hz),
            (false, true) => u64::MAX,
        };
        let news = wait(awake, until, bell);
        let came = disks.host().controllers(news);
        disks.interrupts(came);
    }
}

const _: () = assert!(virtio::OWN_BYTES <= OWN_BYTES && ide::OWN_BYTES <= OWN_BYTES);
