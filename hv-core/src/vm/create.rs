//! How VMs come into being: created, they wait; admitted, they get their memory and run.

use super::{End, Memory, Queue, Registers, Seed, Vm};
use crate::board::Board;
use crate::boot::options::Net;
use crate::component::Role;
use crate::kernel::{Cpu, Kernel};
use crate::memory::Owner;
use abi::control::CREATE_ARGS_BYTES;
use abi::nic;
use abi::pager::PagerEvent;
use abi::sched::SchedEvent;
use abi::share::Share;
use abi::vm::VmId;
use backend::Backend;
use core::fmt;

/// Frames for metadata: the backend's control structure and the context.
pub const METADATA_FRAMES: u32 = 2;
/// Frames that an admitted VM needs before it has touched anything, beside its NIC: register page, two page tables, four
/// nested tables, and some for its first steps.
const FIRST_FRAMES: u64 = 16;

/// Why a VM is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// There is no image of this number, or it was refused at boot.
    UnknownImage,
    /// All slots are taken.
    SlotsTaken,
    /// There are no frames for its metadata.
    OutOfFrames,
    /// A weight or a burst beyond its limits.
    BadShare,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CreateError::UnknownImage => {
                "there is no such image, or it was refused when it was loaded; look further up in the log"
            }
            CreateError::SlotsTaken => "every slot for VMs is taken; end some, or boot with more memory",
            CreateError::OutOfFrames => "too little memory is free; end some VMs, or boot with more memory",
            CreateError::BadShare => "its weight or burst is beyond its limits; docs/policies.md has them",
        })
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Make a VM of an image, with the image's share. It waits for the gatekeeper.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed.
    pub fn create(&mut self, image: u16, args: [u8; CREATE_ARGS_BYTES]) -> Result<VmId, CreateError> {
        self.create_with(image, args, Share::UNSAID)
    }

    /// Make a VM of an image. What `share` does not say is the image's. It waits for the gatekeeper.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed.
    pub fn create_with(
        &mut self,
        image: u16,
        args: [u8; CREATE_ARGS_BYTES],
        share: Share,
    ) -> Result<VmId, CreateError> {
        let Self { vms, cpu, .. } = self;
        let created_tsc = cpu.board.now();
        let Some(of_image) = cpu.images.get(image).map(|image| image.entry.share()) else {
            return Err(CreateError::UnknownImage);
        };
        if !share.is_valid() {
            return Err(CreateError::BadShare);
        }
        let share = share.or(of_image);
        let id = vms.free_slot().ok_or(CreateError::SlotsTaken)?;
        if cpu.frames.free_frames() < METADATA_FRAMES.into() {
            return Err(CreateError::OutOfFrames);
        }
        let owner = Owner::VmMeta(id.index);
        let control = cpu.frames.alloc_zeroed(owner, 0).ok_or(CreateError::OutOfFrames)?;
        let Some(context) = cpu.frames.alloc_zeroed(owner, 1) else {
            cpu.frames.free(control, owner);
            return Err(CreateError::OutOfFrames);
        };
        let ipv4 = ipv4_of(&cpu.net, id.index);
        let seed = Seed { id, image, ipv4, share, args, control_frame: control, created_tsc };
        // SAFETY: the context frame was just allocated and zeroed for this VM; nothing points to it.
        let Some(vm) = (unsafe { vms.insert(context, seed) }) else {
            cpu.frames.free(control, owner);
            cpu.frames.free(context, owner);
            return Err(CreateError::SlotsTaken);
        };
        cpu.await_admission(vm);
        let event = SchedEvent::Arrived { vm: id, frames: cpu.frames_needed(image), free: cpu.frames.free_frames() };
        cpu.tell_scheduler(event, true);
        if cpu.components.rank_of(Role::Sched).is_none() {
            cpu.admit(vm);
        }
        Ok(id)
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Frames that a VM of this image needs to start.
    pub fn frames_needed(&self, image: u16) -> u64 {
        let (rx, tx) = self.images.get(image).map_or((0, 0), |image| (image.entry.rx_slots, image.entry.tx_slots));
        FIRST_FRAMES + nic::nic_pages(rx, tx)
    }

    /// The gatekeeper admits a VM: give it its first pages and let it run. One that does not wait is left alone: the
    /// gatekeeper may not know yet.
    pub fn admit(&mut self, vm: &mut Vm<B>) {
        if !vm.life.is_waiting() {
            return;
        }
        match self.build(vm) {
            Ok((memory, registers)) => self.begin(vm, memory, registers),
            Err(why) => {
                if self.guest_log.allow(self.board.now(), self.time.tsc_hz()).is_some() {
                    log::error!(target: "core", "{} cannot be started: {why}", vm.id);
                }
                self.end(vm, End::new(why.reason(), 0));
            }
        }
    }

    /// A VM is admitted with all that it has. Components are told.
    #[inline]
    fn begin(&mut self, vm: &mut Vm<B>, memory: Memory<B>, registers: Registers) {
        let pages = memory.pages();
        self.queues.remove(Queue::Waiting, vm.slot());
        registers.raise(vm.early);
        vm.life.admit(memory, registers);
        self.tell(Role::Pager, &PagerEvent::VmStarted { vm: vm.id, image: vm.image, pages }.into(), false);
        self.attach(vm);
        self.now_ready(vm);
        self.mark = self.board.now();
    }
}

/// The address of the VM in a slot, 0 when it asks DHCP.
fn ipv4_of(net: &Net, slot: u16) -> u32 {
    match net {
        Net::Static { address, .. } => address.wrapping_add(slot.into()),
        Net::Dhcp => 0,
    }
}
