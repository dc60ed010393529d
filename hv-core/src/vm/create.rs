//! How VMs come into being: created, they wait; admitted, they get their memory and run.

use super::args::Extra;
use super::build::{BuildError, Part};
use super::seed::Seed;
use super::{End, Memory, Queue, Registers, Table, Vm};
use crate::board::Board;
use crate::boot::options::Net;
use crate::kernel::{Cpu, Kernel};
use crate::memory::{Owner, Reservation};
use abi::share::Share;
use abi::vm::{ImageId, Slot, VmId};
use backend::Backend;
use core::fmt;

/// Frames for metadata: the backend's control structure and the context.
pub const METADATA_FRAMES: u32 = 2;

/// Why a VM is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// There is no image of this number, or it was refused at boot.
    UnknownImage,
    /// All slots are taken.
    SlotsTaken,
    /// There is no room for its boot arguments.
    ArgumentsTaken,
    /// A weight or a burst beyond its limits.
    BadShare,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CreateError::UnknownImage => {
                "there is no such image, or it was refused when it was loaded; look further up in the log"
            }
            CreateError::SlotsTaken => "every slot for VMs is taken; end some, or boot with more (slots=)",
            CreateError::ArgumentsTaken => {
                "too many VMs that wait have boot arguments of their own; end some, or wait until they are admitted"
            }
            CreateError::BadShare => "its weight or burst is beyond its limits; docs/policies.md has them",
        })
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Make a VM of an image, with the image's share. It waits for the gatekeeper, and takes no frame meanwhile.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed.
    pub fn create(&mut self, image: ImageId, extra: &Extra) -> Result<VmId, CreateError> {
        self.create_with(image, extra, Share::UNSAID)
    }

    /// Make a VM of an image. What `share` does not say is the image's. It waits for the gatekeeper, and takes no frame
    /// meanwhile.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed.
    pub fn create_with(&mut self, image: ImageId, extra: &Extra, share: Share) -> Result<VmId, CreateError> {
        let Self { vms, cpu, .. } = self;
        let created_tsc = cpu.board.now();
        let Some(of_image) = cpu.images.get(image).map(|image| image.entry.share()) else {
            return Err(CreateError::UnknownImage);
        };
        if !share.is_valid() {
            return Err(CreateError::BadShare);
        }
        let share = share.or(of_image);
        let id = vms.next_id().ok_or(CreateError::SlotsTaken)?;
        let seed = Seed { id, image, ipv4: ipv4_of(&cpu.net, id.slot), share, created_tsc };
        if !vms.create(seed, extra) {
            return Err(CreateError::ArgumentsTaken);
        }
        cpu.await_admission(id);
        cpu.tell_arrived(vms, id, image, true);
        if cpu.scheduler().is_none() {
            cpu.admit(vms, id);
        }
        Ok(id)
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Frames that are kept for a VM of this image when it is admitted.
    pub fn frames_needed(&self, image: ImageId) -> u64 {
        self.images.get(image).map_or(0, |image| image.entry.reserve_frames.into())
    }

    /// Keep a VM's reserve for it. `None` when there is not as much.
    fn reserve(&mut self, image: ImageId) -> Option<Reservation> {
        let entry = &self.images.get(image)?.entry;
        Reservation::open(&mut self.frames, entry.reserve_frames, entry.limit_frames)
    }

    /// The gatekeeper admits a VM: give it its first pages and let it run. One that does not wait is left alone: the
    /// gatekeeper may not know yet.
    pub fn admit(&mut self, vms: &mut Table<B>, id: VmId) {
        let Some(seed) = vms.waiting(id) else { return };
        let reservation = if vms.seats().free() == 0 { None } else { self.reserve(seed.image) };
        let Some(reservation) = reservation else {
            // The gatekeeper believed otherwise, or is not one that asks. The VM goes on waiting.
            return self.tell_arrived(vms, id, seed.image, false);
        };
        let (early, extra) = vms.take_luggage(id.slot);
        let Some((vm, reservation)) = self.seat(vms, seed, reservation) else {
            self.cannot_start(id, BuildError::NoFrame(Part::Metadata));
            self.end_waiting(vms, id, End::new(BuildError::NoFrame(Part::Metadata).reason(), 0));
            return;
        };
        self.queues.remove(Queue::Waiting, id.slot);
        match self.build(vm, reservation, &extra) {
            Ok((memory, registers)) => {
                registers.raise(early);
                self.begin(vm, memory, registers);
            }
            Err(why) => {
                self.cannot_start(id, why);
                self.end(vm, End::new(why.reason(), 0));
            }
        }
    }

    /// Give a VM that waits the frames of its metadata, of those that are kept for it. `None`, and nothing is kept any more,
    /// when there are none.
    pub fn seat<'t>(
        &mut self,
        vms: &'t mut Table<B>,
        seed: Seed,
        mut reservation: Reservation,
    ) -> Option<(&'t mut Vm<B>, Reservation)> {
        let owner = Owner::VmMeta(seed.id.slot.number());
        let mut frame = |page| reservation.alloc_zeroed(&mut self.frames, owner, page).ok();
        let (control, context) = (frame(0), frame(1));
        let vm = match (control, context) {
            // SAFETY: the context frame was just allocated and zeroed for this VM; nothing points to it.
            (Some(control), Some(context)) => unsafe { vms.admit(context, control, seed) },
            _ => None,
        };
        let Some(vm) = vm else {
            for frame in [control, context].into_iter().flatten() {
                reservation.free(&mut self.frames, frame, owner);
            }
            reservation.close(&mut self.frames);
            return None;
        };
        if let Some(image) = self.images.get(seed.image) {
            (vm.net, vm.pager) = (image.net, image.pager);
        }
        Some((vm, reservation))
    }

    #[cold]
    fn cannot_start(&mut self, id: VmId, why: BuildError) {
        if self.guest_log.allow(self.board.now(), self.time.tsc_hz()).is_some() {
            log::error!(target: "core", "{id} cannot be started: {why}");
        }
    }

    /// A VM is admitted with all that it has. Components are told.
    #[inline]
    fn begin(&mut self, vm: &mut Vm<B>, memory: Memory<B>, registers: Registers) {
        vm.life.admit(memory, registers);
        self.attach_pager(vm, false);
        self.attach(vm);
        self.now_ready(vm);
        self.mark = self.board.now();
    }
}

/// The address of the VM in a slot, 0 when it asks DHCP.
fn ipv4_of(net: &Net, slot: Slot) -> u32 {
    match net {
        Net::Static { address, .. } => address.wrapping_add(slot.number()),
        Net::Dhcp => 0,
    }
}
