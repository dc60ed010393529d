//! The component: its rings, its loop.

use crate::alteration;
use crate::controllers::{self, Any};
use crate::disks::{Disks, Host, MAX_CONTROLLERS, WAITED_BYTES};
use crate::drivers::Room;
use crate::guests::{self, Guests};
use crate::peek::Peek;
use crate::policy::Discipline;
use crate::question::Question;
use crate::scrub;
use crate::service::Service;
use crate::sets::{DIRECTORY_BYTES, Sets};
use crate::store::{self, Store};
use crate::swap::{self, SwapRegions};
use crate::uses::{MAX_ENTRIES, Uses};
use abi::component::bits;
use abi::disk::{DiskReply, DiskRequest};
use abi::disk_service::{DiskCommand, DiskEvent};
use abi::guest::pending;
use abi::message::{BadMessage, Message};
use abi::swap_disk::{REPLIES, REQUESTS, SwapDiskRequest};
use abi::vm::{Seat, VmId};
use component::{Complaints, Component, Crc32c, Inbox, Once, Outbox, VmDisk, notify, now, raise, wait};
use disk_format::{BLOCK_BYTES, Block};

/// DMA memory that is needed: the drivers' own, the blocks that are waited for, and those of a scrub, of the store, of swap regions and of a change of the directory.
const DMA_BYTES: usize =
    controllers::BYTES + WAITED_BYTES + scrub::BYTES + store::BYTES + swap::BYTES + alteration::BYTES;
/// The notification bits of interrupts.
const IRQS: u64 = bits::KICK - (1 << bits::IRQ_SHIFT);
/// How often a second polled controllers are asked while something is under way.
const ASKS: u64 = 10_000;

/// The directory of the set in use.
static DIRECTORY: Once<[u8; DIRECTORY_BYTES]> = Once::new([0; DIRECTORY_BYTES]);
/// How many VMs have each virtual disk.
static USES: Once<[u16; MAX_ENTRIES]> = Once::new([0; MAX_ENTRIES]);

/// What was read last for who controls the machine.
static READ: Once<Block> = Once::new([0; BLOCK_BYTES]);

/// Makes a program of a discipline.
#[macro_export]
macro_rules! main {
    ($discipline:ty) => {
        $crate::component::main!(main, $crate::tables::<$discipline>());

        fn main(component: $crate::component::Component) -> ! {
            $crate::run::<$discipline>(&component)
        }
    };
}

/// The core, as the disks need it.
struct Core {
    hz: u64,
    /// The devices of the controllers.
    devices: heapless::Vec<u32, MAX_CONTROLLERS>,
    /// The bits of those that were served, of which the core hears with the next wait.
    served: u64,
}

impl Core {
    /// The notification bits of all controllers' interrupts.
    fn mask(&self) -> u64 {
        self.devices.iter().fold(0, |mask, device| mask | 1 << (bits::IRQ_SHIFT + device))
    }

    /// Which controllers' interrupts are among these notification bits.
    fn controllers(&self, news: u64) -> u32 {
        if news & IRQS == 0 {
            return 0;
        }
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
        let served = core::mem::take(&mut self.served);
        self.controllers(wait(self.mask(), until, served))
    }

    fn acknowledge(&mut self, controllers: u32) {
        for (_, device) in self.devices.iter().enumerate().filter(|(number, _)| controllers >> number & 1 != 0) {
            self.served |= 1 << (bits::IRQ_SHIFT + device);
        }
    }
}

/// Finds disks and sets, opens the set, and answers questions about them, for ever.
///
/// # Panics
/// When the manifest gives the component too little DMA memory, or no rings with the monitor.
pub fn run<D: Discipline>(component: &Component) -> ! {
    let info = component.info();
    let dma = component.dma().filter(|dma| dma.memory.len() >= DMA_BYTES);
    let Some(dma) = dma else { panic!("too little DMA memory: give diskmux {DMA_BYTES} bytes in system.toml") };
    let room = Room::new(dma.memory, dma.physical, controllers::BYTES);
    let (controllers, devices) = controllers::start(component, room);
    let core = Core { hz: info.tsc_hz, devices, served: 0 };
    let waited = controllers::BYTES;
    let scrubs = waited + WAITED_BYTES;
    let mut disks = Disks::new(controllers, dma.memory, waited, core);
    log::info!("policy={} incarnation={} disks={}", D::NAME, info.incarnation, disks.list().len());
    let Some(directory) = DIRECTORY.take() else { panic!("the directory was taken") };
    let mut sets = Sets::new(directory);
    // What came to the predecessor was perhaps never acknowledged.
    disks.interrupts(!0);
    sets.find(&mut disks);
    let Some(uses) = USES.take() else { panic!("the uses of disks were taken") };
    let Some(read) = READ.take() else { panic!("the block that is read was taken") };
    let (from_core, to_core) = component.service(abi::service::Service::Disk);
    let guests = Guests::<D>::new(&mut component.tables(), Uses::new(uses));
    let stores = scrubs + scrub::BYTES;
    let swap = SwapRegions::new(stores + store::BYTES, component.ring_data(REQUESTS));
    let desk = Desk {
        service: Service::new(
            sets,
            Store::new(stores, Crc32c::of_this_processor()),
            guests,
            swap,
            [scrubs, stores + store::BYTES + swap::BYTES],
            Peek::new(read),
        ),
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

    fn now(&mut self) -> u64 {
        now()
    }

    fn hz(&self) -> u64 {
        self.component.info().tsc_hz
    }

    fn tell(&mut self, command: DiskCommand) {
        // The core empties a full ring at once, so none is owed.
        let _ = self.to_core.send(&command.into());
    }
}

/// What the component does for the core and the monitor.
struct Desk<'c, D> {
    service: Service<D>,
    vms: Vms<'c>,
    complaints: Complaints,
}

impl<D: Discipline> Desk<'_, D> {
    /// Answers a question; `None` when it is answered later, or never.
    fn answer(&mut self, message: &Message, of_core: bool, disks: &Disks<&'static mut Any, Core>) -> Option<DiskReply> {
        let sets = &self.service.sets;
        let question = Question { id: message.id, of_core };
        Some(match DiskRequest::try_from(message) {
            Ok(DiskRequest::Disk { index }) => sets.disk(index, disks),
            Ok(DiskRequest::Set { index }) => sets.set(index),
            Ok(DiskRequest::Problem { set, index }) => sets.problem(set, index),
            Ok(DiskRequest::Entry { index }) => sets.entry_reply(index),
            Ok(DiskRequest::Scrub { index }) if self.service.begin_scrub(question, index, now()) => return None,
            Ok(DiskRequest::Scrub { .. }) => DiskReply::None,
            Ok(DiskRequest::Snapshot { name, new }) => return self.service.begin_snapshot(question, name, new),
            Ok(DiskRequest::Create { name, blocks }) => return self.service.begin_creation(question, name, blocks),
            Ok(DiskRequest::Remove { name }) => return self.service.begin_removal(question, name),
            Ok(DiskRequest::Read { name, block, part }) => return self.service.begin_read(question, name, block, part),
            Ok(DiskRequest::DiskLoad { index }) => disks.load(index),
            Ok(DiskRequest::VmLoad { index }) => self.service.guests.load(index),
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

    /// Swap asks for something.
    fn take(&mut self, message: &Message) {
        match SwapDiskRequest::try_from(message) {
            Ok(request) => self.service.swap.hear(message.id, request, &self.service.sets),
            Err(bad) => self.complain(&bad),
        }
    }

    /// Answers swap, as far as it has room. The bell to ring for that.
    fn tell_swap(&mut self, swap: Option<&mut (Inbox, Outbox)>) -> u64 {
        let Some((_, replies)) = swap.filter(|_| self.service.swap.has_to_say()) else { return 0 };
        let mut bell = 0;
        while let Some((id, reply)) = self.service.swap.say(&self.service.sets) {
            // It has room for all that can be under way.
            let _ = replies.stage(&Message { id, ..reply.into() });
            bell = replies.doorbell;
        }
        replies.publish();
        bell
    }

    /// The core has said something, or asks something for a VM that controls the machine.
    fn hear(&mut self, message: &Message, disks: &Disks<&'static mut Any, Core>) {
        if let Ok(event) = DiskEvent::try_from(message) {
            return self.service.guests.hear(event, &self.service.sets, &mut self.vms);
        }
        if let Some(reply) = self.answer(message, true, disks) {
            self.tell_core(message.id, reply);
        }
    }

    /// Answers a question of the core's.
    fn tell_core(&mut self, id: u32, reply: DiskReply) {
        // The core empties a full ring at once.
        let _ = self.vms.to_core.send(&Message { id, ..reply.into() });
    }
}

fn serve<D: Discipline>(
    component: &Component,
    disks: &mut Disks<&'static mut Any, Core>,
    mut desk: Desk<'_, D>,
    mut from_core: Inbox,
) -> ! {
    let hz = component.info().tsc_hz;
    let (mut questions, mut answers) = (component.inbox("monitor-diskmux"), component.outbox("diskmux-monitor"));
    // With swap, where there is one.
    let mut swap = component.find_inbox(REQUESTS).zip(component.find_outbox(REPLIES));
    let swap_bell = swap.as_ref().map_or(0, |(requests, _)| requests.doorbell);
    if let Some((_, replies)) = &mut swap {
        // Whoever waits for a predecessor hears that there is another one.
        let _ = replies.send(&SwapRegions::regions(0, &desk.service.sets).into());
        notify(replies.doorbell);
    }
    let awake = questions.doorbell | from_core.doorbell | swap_bell | bits::KICK | disks.host().mask();
    // Whoever has put something into a ring rings for it: only what was rung for is looked at, and at the start all.
    let mut news = awake;
    loop {
        let (mut bell, mut unread) = (0, 0);
        if news & questions.doorbell != 0 {
            let all_read = questions.drain(|message| {
                if let Some(reply) = desk.answer(message, false, disks) {
                    // Who asks without reading gets no answer.
                    let _ = answers.send(&Message { id: message.id, ..Message::from(reply) });
                    bell = answers.doorbell;
                }
            });
            unread |= if all_read { 0 } else { questions.doorbell };
        }
        if news & from_core.doorbell != 0 && !from_core.drain(|message| desk.hear(message, disks)) {
            unread |= from_core.doorbell;
        }
        if let Some((requests, _)) = &mut swap
            && news & swap_bell != 0
            && !requests.drain(|message| desk.take(message))
        {
            unread |= swap_bell;
        }
        if news & bits::KICK != 0 {
            component.take_kicks(|seat| desk.service.guests.kicked(seat));
        }
        // A scrub, a change of the directory and a block at most.
        let mut for_core = heapless::Vec::<(u32, DiskReply), 3>::new();
        let more = desk.service.step(disks, &mut desk.vms, |Question { id, of_core }, reply| {
            if of_core {
                let _ = for_core.push((id, reply));
            } else {
                let _ = answers.send(&Message { id, ..reply.into() });
                bell |= answers.doorbell;
            }
        });
        for_core.into_iter().for_each(|(id, reply)| desk.tell_core(id, reply));
        bell |= desk.tell_swap(swap.as_mut());
        let until = match (desk.service.is_busy(), unread == 0 && !more) {
            (_, false) => 0,
            (true, true) if disks.is_polled() => now().saturating_add(hz / ASKS),
            // For the look at the time that a disk takes.
            (true, true) => now().saturating_add(hz),
            (false, true) => u64::MAX,
        };
        let until = until.min(desk.service.guests.due());
        let served = core::mem::take(&mut disks.host().served);
        let came = wait(awake, until, bell | served);
        let interrupts = disks.host().controllers(came);
        disks.interrupts(interrupts);
        news = came | unread;
    }
}
