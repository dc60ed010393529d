//! The component: its rings, its loop.

use crate::controllers::{self, Any};
use crate::disks::{Disks, Host, MAX_CONTROLLERS, WAITED_BYTES};
use crate::drivers::Room;
use crate::scrub::{self, Scrub};
use crate::sets::{DIRECTORY_BYTES, Sets};
use abi::component::bits;
use abi::disk::{DiskReply, DiskRequest};
use abi::message::Message;
use component::{Complaints, Component, Once, irq_ack, now, wait};

/// DMA memory that is needed: the drivers' own, the blocks that are waited for, and those of a scrub.
const DMA_BYTES: usize = controllers::BYTES + WAITED_BYTES + scrub::BYTES;
/// How often a second polled controllers are asked while something is under way.
const ASKS: u64 = 10_000;

/// The directory of the set in use.
static DIRECTORY: Once<[u8; DIRECTORY_BYTES]> = Once::new([0; DIRECTORY_BYTES]);

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

/// Finds disks and sets, opens the set, and answers questions about them, for ever.
///
/// # Panics
/// When the manifest gives the component too little DMA memory, or no rings with the monitor.
pub fn run(component: &Component) -> ! {
    let info = component.info();
    let dma = component.dma().filter(|dma| dma.memory.len() >= DMA_BYTES);
    let Some(dma) = dma else { panic!("too little DMA memory: give diskmux {DMA_BYTES} bytes in system.toml") };
    let room = Room::new(dma.memory, dma.physical, controllers::BYTES);
    let (controllers, devices) = controllers::start(component, room);
    let core = Core { hz: info.tsc_hz, devices };
    let waited = controllers::BYTES;
    let scrubs = waited + WAITED_BYTES;
    let mut disks = Disks::new(controllers, dma.memory, waited, core);
    log::info!("incarnation={} disks={}", info.incarnation, disks.list().len());
    let Some(directory) = DIRECTORY.take() else { panic!("the directory was taken") };
    let mut sets = Sets::new(directory);
    // What came to the predecessor was perhaps never acknowledged.
    disks.interrupts(!0);
    sets.find(&mut disks);
    serve(component, &mut disks, &sets, scrubs)
}

fn serve(component: &Component, disks: &mut Disks<&'static mut Any, Core>, sets: &Sets, scrubs: usize) -> ! {
    let hz = component.info().tsc_hz;
    let (mut questions, mut answers) = (component.inbox("monitor-diskmux"), component.outbox("diskmux-monitor"));
    let mut complaints = Complaints::new(hz);
    let mut scrub: Option<(u32, Scrub)> = None;
    let awake = questions.doorbell | disks.host().mask();
    loop {
        let mut bell = 0;
        let all_read = questions.drain(|message| {
            let reply = match DiskRequest::try_from(message) {
                Ok(DiskRequest::Disk { index }) => sets.disk(index, disks),
                Ok(DiskRequest::Set { index }) => sets.set(index),
                Ok(DiskRequest::Problem { set, index }) => sets.problem(set, index),
                Ok(DiskRequest::Entry { index }) => sets.entry_reply(index),
                Ok(DiskRequest::Scrub { index }) => match Scrub::new(index, sets, scrubs, now()) {
                    // One at a time: whoever asked for the one before does not wait any more.
                    Some(new) if scrub.is_none() => {
                        scrub = Some((message.id, new));
                        return;
                    }
                    _ => DiskReply::None,
                },
                Err(bad) => {
                    if let Some(suppressed) = complaints.pass(now()) {
                        log::warn!("dropped a {bad}; {suppressed} such lines suppressed");
                    }
                    return;
                }
            };
            // Who asks without reading gets no answer.
            let _ = answers.send(&Message { id: message.id, ..Message::from(reply) });
            bell = answers.doorbell;
        });
        if let Some((id, current)) = &mut scrub
            && let Some(reply) = current.step(sets, disks)
        {
            let _ = answers.send(&Message { id: *id, ..Message::from(reply) });
            bell = answers.doorbell;
            scrub = None;
        }
        let until = match (&scrub, all_read) {
            (_, false) => 0,
            (Some(_), true) if disks.is_polled() => now().saturating_add(hz / ASKS),
            // For the look at the time that a disk takes.
            (Some(_), true) => now().saturating_add(hz),
            (None, true) => u64::MAX,
        };
        let news = wait(awake, until, bell);
        let came = disks.host().controllers(news);
        disks.interrupts(came);
    }
}
