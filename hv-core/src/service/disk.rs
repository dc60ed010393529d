//! Virtual disks: the striper's share of VMs that have one, which is the disk page and the block slots behind it, in its window while a VM is
//! attached. Which disk it is, and who may have it, is the striper's business; the core keeps the name, and ends a VM whose disk is refused. One that goes
//! out keeps its disk: the striper takes leave of its pages, and the striper's successor is told of it as of one that has the disk.

use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::{Cpu, Kernel};
use crate::memory::{PhysAddr, core_memory};
use crate::vm::{Devices, DiskTold, End, NEVER, Queue, Table, Vm};
use abi::attachment::Attachment;
use abi::disk_service::{DiskCommand, DiskEvent, no_disk};
use abi::end::EndReason;
use abi::guest::pending;
use abi::guest_disk::{COMPLETION_SLOTS, COMPLETIONS, DISK_BASE, PAGES, REQUEST_SLOTS, REQUESTS, ring_bytes};
use abi::limits::{Name, PAGE_SHIFT, PAGE_SIZE};
use abi::message::{BadMessage, Message};
use abi::pager::Stays;
use abi::service::Service;
use abi::vm::{Slot, VmId};
use backend::Backend;

/// A VM that comes in cannot have a page of its disk's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoDiskPage {
    /// Guest page number.
    pub page: u32,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Carry out a command of the striper at this endpoint.
    ///
    /// # Errors
    /// What is no command.
    pub fn disk_command(&mut self, from: EndpointId, message: &Message) -> Result<(), BadMessage> {
        let Self { vms, cpu, .. } = self;
        let is_its = |vm: &&mut Vm<B>| vm.disk == from && vm.life.shared().contains(Devices::DISK);
        let command = match DiskCommand::try_from(message) {
            Ok(command) => command,
            Err(_) => return cpu.disks_answer(message),
        };
        match command {
            DiskCommand::Detached { vm } => {
                // What it says of one that it has not been asked about is not heard.
                if let Some(vm) = vms.by_id(vm).filter(is_its)
                    && cpu.queues.contains(Queue::Leaving(from), vm.slot())
                {
                    cpu.detach_disk(vm);
                    cpu.let_go_of(vm);
                }
            }
            DiskCommand::Refused { vm, why } => {
                if let Some(vm) = vms.by_id(vm).filter(is_its) {
                    cpu.detach_disk(vm);
                    cpu.end_or_let_go(vm, End::new(EndReason::NoDisk, why.into()));
                }
            }
            DiskCommand::Left { vm: id } => {
                let Some(vm) = vms.by_id(id).filter(is_its) else { return Ok(()) };
                if vm.life.is_leaving() {
                    cpu.detach_disk(vm);
                    vm.disk_told = DiskTold::Out;
                    self.disk_let_go(id);
                } else if vm.life.is_ending() {
                    // It has ended meanwhile. It was asked to let go of it in any case, or is not asked any more.
                    let asked = cpu.queues.contains(Queue::Leaving(from), vm.slot());
                    cpu.detach_disk(vm);
                    vm.disk_told = DiskTold::Out;
                    if asked {
                        cpu.let_go_of(vm);
                    }
                }
            }
            DiskCommand::Used { vm, done } => {
                // One that has ended meanwhile is charged with nothing.
                if let Some(slot) = vms.by_id(vm).filter(is_its).map(|vm| vm.slot()) {
                    vms.use_disk(slot, done);
                }
            }
            DiskCommand::Stays { vm } => {
                if let Some(vm) = vms.by_id(vm).filter(is_its).filter(|vm| vm.life.is_leaving()) {
                    cpu.stay(vm, Stays::Busy);
                }
            }
        }
        Ok(())
    }

    /// Make [`pending::DISK`] pending for a VM whose disk the striper at this endpoint serves. False for another one.
    #[must_use]
    pub fn raise_disk(&mut self, from: EndpointId, vm: VmId) -> bool {
        let Self { vms, cpu, .. } = self;
        let is_its = |vm: &&mut Vm<B>| vm.disk == from && vm.life.shared().contains(Devices::DISK);
        let Some(vm) = vms.by_id(vm).filter(is_its) else { return false };
        cpu.bill(from, vm);
        cpu.raise(vm, pending::DISK);
        true
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// First words to the striper.
    pub(super) fn disk_hello(&mut self, to: EndpointId) {
        self.disks_forget();
        self.tell(to, &DiskEvent::Hello.into(), true);
    }

    /// The striper has been told of all VMs that have a disk.
    pub(super) fn disk_told(&mut self, to: EndpointId) {
        self.tell(to, &DiskEvent::Told.into(), true);
    }

    /// Share the disk pages of an admitted VM with the striper, and tell that, if the VM has a disk. Where the striper does not live, its successor
    /// is told; where there is none, the VM ends.
    pub fn attach_disk(&mut self, vm: &mut Vm<B>) {
        if vm.attachment.is_none() {
            return;
        }
        let Some(rank) = self.endpoints.rank(vm.disk) else {
            return self.end(vm, End::new(EndReason::NoDisk, no_disk::NO_STRIPER.into()));
        };
        let told = vm.disk_told;
        let Some(start) = self.living_start(vm.disk).filter(|&start| told != DiskTold::Attached(start)) else { return };
        let Some(body) = vm.life.body() else { return };
        let mut first = None;
        let mapped = (0..PAGES).all(|index| {
            let Some(frame) = body.memory.frame(&mut self.frames, guest_page(index)) else { return false };
            first = first.or(Some(frame));
            self.components.list[rank].space.map_window(&mut self.frames, vm.seat, index, frame)
        });
        // What a predecessor has done and not said is in nobody's memory. One that is back from being out has no such thing.
        let stale = matches!(told, DiskTold::Attached(_));
        let fresh = !stale || first.is_some_and(|page| self.reset_disk_rings(page));
        vm.life.share(Devices::DISK);
        if !mapped || !fresh {
            self.detach_disk(vm);
            if told != DiskTold::Out {
                self.end(vm, End::new(EndReason::NoDisk, no_disk::NO_WINDOW.into()));
            }
            // It has run, and may be doing something else: there is another try when it kicks its disk, or has been out again.
            return;
        }
        let again = told != DiskTold::Nothing;
        vm.disk_told = DiskTold::Attached(start);
        let Attachment { disk, mode, rate } = vm.attachment;
        let event = DiskEvent::Attach { vm: vm.id, seat: vm.seat, disk, mode, rate, again, weight: vm.share.weight };
        self.tell(vm.disk, &event.into(), true);
    }

    /// Share the disk pages of an admitted VM with the striper, and tell that when there is space in its ring.
    #[cold]
    #[inline(never)]
    pub(super) fn attach_disk_soon(&mut self, vm: &mut Vm<B>) {
        if vm.attachment.is_none() {
            return;
        }
        if self.has_room(vm.disk) {
            self.attach_disk(vm);
        } else {
            self.owe(vm.disk, vm.seat, false);
        }
    }

    /// Have the striper take leave of a VM that is to go out and shares its disk pages.
    pub(super) fn leave_disk(&mut self, vm: &mut Vm<B>) {
        if self.living_start(vm.disk).map(DiskTold::Attached) == Some(vm.disk_told) {
            self.tell_of(vm.disk, vm.seat, false, &DiskEvent::Leave { vm: vm.id, seat: vm.seat }.into(), true);
        } else {
            // Its successor has still to be told of it.
            self.stay(vm, Stays::Busy);
        }
    }

    /// The disk pages of a VM that comes in are there, those included that nothing came back for, since they held nothing but zeros.
    ///
    /// # Errors
    /// There is no frame for one of them.
    pub(super) fn fill_disk_pages(&mut self, vm: &mut Vm<B>) -> Result<(), NoDiskPage> {
        if vm.attachment.is_none() {
            return Ok(());
        }
        let memory = vm.life.memory_mut().ok_or(NoDiskPage { page: guest_page(0) })?;
        for page in (0..PAGES).map(guest_page) {
            // They lie below all images.
            memory.map_plain(&mut self.frames, page).map_err(|_| NoDiskPage { page })?;
        }
        Ok(())
    }

    /// The rings in this disk page begin anew: what is in them was for the striper's predecessor, or from it. The guest finds out by the epoch.
    fn reset_disk_rings(&mut self, page: PhysAddr) -> bool {
        let [a, b, c, d, ..] = self.board.random();
        let epoch = u32::from_le_bytes([a, b, c, d]);
        let memory = core_memory(page, PAGE_SIZE);
        let rings = [(REQUESTS, REQUEST_SLOTS), (COMPLETIONS, COMPLETION_SLOTS)];
        rings.into_iter().all(|(at, slots)| {
            memory.sub(at, ring_bytes(slots)).is_some_and(|ring| ring::reset_to(&ring, epoch).is_ok())
        })
    }

    /// A VM that shares its disk pages has ended: the striper has to let go of them. Where it does not live, or has not been told of the VM since its
    /// start, nobody has, and false is the answer.
    #[must_use]
    pub fn begin_detach_disk(&mut self, vm: &mut Vm<B>) -> bool {
        if self.living_start(vm.disk).map(DiskTold::Attached) != Some(vm.disk_told) {
            self.detach_disk(vm);
            return false;
        }
        self.queues.push(Queue::Leaving(vm.disk), vm.slot());
        self.timers.set(vm.seat, NEVER);
        self.tell_of(vm.disk, vm.seat, false, &DiskEvent::Detach { vm: vm.id, seat: vm.seat }.into(), true);
        true
    }

    /// What the striper has still to be told of a VM.
    pub(super) fn tell_owed_disk(&mut self, vm: &mut Vm<B>) {
        if self.queues.contains(Queue::Leaving(vm.disk), vm.slot()) {
            self.tell(vm.disk, &DiskEvent::Detach { vm: vm.id, seat: vm.seat }.into(), true);
        } else if vm.life.leaves_disk() {
            self.tell(vm.disk, &DiskEvent::Leave { vm: vm.id, seat: vm.seat }.into(), true);
        } else if vm.life.body().is_some() && !vm.life.is_leaving() {
            // Where it has been told already, nothing is told.
            self.attach_disk(vm);
        }
    }

    /// What the striper must know of a VM in a seat that goes out or comes in, and is out for it.
    pub(super) fn tell_absent_disk(&mut self, vm: &Vm<B>) {
        if vm.disk_told == DiskTold::Out {
            self.tell_disk_out(vm.disk, vm.id, vm.attachment);
        }
    }

    /// What the striper must know of a slot: the VM there has had its disk, and is out.
    pub(super) fn tell_disk_of(&mut self, to: EndpointId, vms: &Table<B>, slot: Slot) {
        if let (Some(vm), true) = (vms.named(slot), vms.bundle(slot).is_some()) {
            self.tell_disk_out(to, vm, vms.disk(slot));
        }
    }

    fn tell_disk_out(&mut self, to: EndpointId, vm: VmId, attachment: Attachment) {
        if !attachment.is_none() {
            let Attachment { disk, mode, .. } = attachment;
            self.tell(to, &DiskEvent::Out { vm, disk, mode }.into(), true);
        }
    }

    /// Tell the striper that a VM with this virtual disk, of which it perhaps knows as of one that is out, does not come in any more.
    pub fn tell_disk_gone(&mut self, vm: VmId, disk: Name) {
        if !disk.is_empty() && self.pool_bytes() != 0 {
            let to = self.endpoints.first(Service::Disk);
            self.tell(to, &DiskEvent::Gone { vm, disk }.into(), true);
        }
    }

    /// A guest has kicked its disk.
    pub fn kick_disk(&mut self, vm: &mut Vm<B>) {
        if vm.life.shared().contains(Devices::DISK) {
            self.kick_server(vm.disk, vm);
        } else if vm.disk_told == DiskTold::Out {
            // There was no frame for its window when it came in.
            self.attach_disk_soon(vm);
        }
    }

    /// Unmap a VM's disk pages from the striper, if it shares them.
    pub(super) fn detach_disk(&mut self, vm: &mut Vm<B>) {
        if !vm.life.shared().contains(Devices::DISK) {
            return;
        }
        if let Some(rank) = self.endpoints.rank(vm.disk) {
            for index in 0..PAGES {
                self.components.list[rank].space.unmap_window(vm.seat, index);
            }
        }
        vm.life.unshare(Devices::DISK);
        if vm.life.is_ending() {
            self.queues.remove(Queue::Leaving(vm.disk), vm.slot());
        }
    }
}

/// The guest's page that holds page `index` of its virtual disk.
fn guest_page(index: u64) -> u32 {
    u32::try_from((DISK_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX)
}
