//! How VMs come into being: created, they wait; admitted, they get their memory and run.

use super::args::BootArgs;

use super::seed::Seed;
use super::{End, Memory, NotCreated, OverQuota, Queue, Registers, Table, Vm};
use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::memory::{Owner, Reservation};
use abi::attachment::Attachment;
use abi::claim::Claim;
use abi::guest::BOOT_ARGS_MAX;
use abi::log::{BuildError, Part, Record};
use abi::quota::Beyond;
use abi::service::Service;
use abi::share::Share;
use abi::tenant::Tenant;
use abi::vm::{ImageId, Slot, VmId};
use backend::Backend;

/// Frames for metadata: the backend's control structure and the context.
pub const METADATA_FRAMES: u32 = 2;

/// What a VM is to be.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub image: ImageId,
    /// Where its creator believes that it will be, if that matters.
    pub slot: Option<Slot>,
    /// IPv4 address that it may use, 0 when it asks DHCP.
    pub ipv4: u32,
    /// What this does not say is the image's.
    pub share: Share,
    /// What this does not say is the image's.
    pub claim: Claim,
    /// Whose it is; when this does not say, the image's.
    pub tenant: Tenant,
    /// The virtual disk that it has; when this is none, the image's.
    pub disk: Attachment,
}

/// Why a VM is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// There is no image of this number, or it was refused at boot.
    UnknownImage,
    /// All slots are taken.
    SlotsTaken,
    /// Another slot than the creator believes is the next: this one.
    Moved(Slot),
    /// Its boot arguments are longer than any may be.
    TooLong,
    /// There is no room for its boot arguments.
    ArgumentsTaken,
    /// A weight or a burst beyond its limits.
    BadShare,
    /// It would start with the first packet for it, and has no address.
    NoAddress,
    /// Frames with which it could not start, or a reserve beyond its limit.
    BadClaim,
    /// Its tenant may have no more.
    OverQuota(OverQuota, Beyond),
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Make a VM with these boot arguments, which are all that it gets. It waits for the gatekeeper, and takes no frame
    /// meanwhile.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed.
    pub fn create(&mut self, order: &Order, args: &[u8]) -> Result<VmId, CreateError> {
        let Self { vms, cpu, .. } = self;
        let created_tsc = cpu.board.now();
        let stolen_ms = cpu.stolen_ms(created_tsc);
        let &Order { image, slot, ipv4, share, claim, tenant, disk } = order;
        let Some(of_image) = cpu.images.get(image).map(|image| &image.entry) else {
            return Err(CreateError::UnknownImage);
        };
        if of_image.starts_lazily() && ipv4 == 0 {
            return Err(CreateError::NoAddress);
        }
        if !share.is_valid() {
            return Err(CreateError::BadShare);
        }
        // The image's own was checked at boot.
        let said = claim != Claim::UNSAID;
        let claim = claim.or(of_image.claim());
        if said && !claim.is_valid() {
            return Err(CreateError::BadClaim);
        }
        if args.len() > BOOT_ARGS_MAX {
            return Err(CreateError::TooLong);
        }
        let share = share.or(of_image.share());
        let tenant = tenant.or(of_image.tenant());
        let disk = disk.or(of_image.disk);
        let claim = claim.with_disk(disk);
        let id = vms.next_id().ok_or(CreateError::SlotsTaken)?;
        if slot.is_some_and(|slot| slot != id.slot) {
            return Err(CreateError::Moved(id.slot));
        }
        let seed = Seed { id, image, ipv4, share, claim, tenant, disk, created_tsc, stolen_ms };
        match vms.create(seed, args) {
            Ok(()) => {}
            Err(NotCreated::NotNext) => return Err(CreateError::Moved(id.slot)),
            Err(NotCreated::ArgumentsTaken) => return Err(CreateError::ArgumentsTaken),
            Err(NotCreated::OverQuota(why)) => {
                return Err(CreateError::OverQuota(why, Beyond { tenant, frames: claim.limit }));
            }
        }
        self.arrived(&seed);
        Ok(id)
    }

    /// A VM has come to live. It waits for the gatekeeper, or is out until somebody asks for it.
    pub fn arrived(&mut self, seed: &Seed) {
        self.cpu.images.note_disk(seed.image, seed.disk.disk);
        if self.cpu.starts_lazily(seed) {
            self.vms.put_out(seed.id);
            self.cpu.tell_out(seed);
        } else {
            self.want_in(seed, seed.claim.reserve);
        }
    }

    /// A VM, for which so many frames are to be kept, waits for the gatekeeper from now on.
    pub fn want_in(&mut self, seed: &Seed, reserve: u32) {
        let Self { vms, cpu, .. } = self;
        cpu.await_admission(seed.id);
        cpu.tell_arrived(vms, seed, reserve, true);
        if cpu.scheduler().is_none() {
            cpu.admit(vms, seed.id);
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// The gatekeeper admits a VM: give it its first pages and let it run. One that does not wait is left alone: the
    /// gatekeeper may not know yet.
    pub fn admit(&mut self, vms: &mut Table<B>, id: VmId) {
        let Some(seed) = vms.waiting(id) else { return };
        if vms.bundle(id.slot).is_some() {
            return self.come(vms, seed);
        }
        let Claim { reserve, limit } = seed.claim;
        let has_seat = vms.seats().free() > 0;
        let reservation = if has_seat { Reservation::open(&mut self.frames, reserve, limit) } else { None };
        let Some(reservation) = reservation else {
            // The gatekeeper believed otherwise, or is not one that asks. The VM goes on waiting.
            return self.tell_arrived(vms, &seed, reserve, false);
        };
        let mut args = BootArgs::new();
        let early = vms.take_luggage(id.slot, &mut args);
        let Some((vm, reservation)) = self.seat(vms, seed, reservation) else {
            self.cannot_start(id, BuildError::NoFrame(Part::Metadata));
            self.end_waiting(vms, id, End::new(BuildError::NoFrame(Part::Metadata).reason(), 0));
            return;
        };
        self.queues.remove(Queue::Waiting, id.slot);
        match self.build(vm, reservation, &args) {
            Ok((memory, registers)) => {
                registers.raise(early);
                self.begin(vm, memory, registers);
                if self.starts_lazily(&seed) {
                    // Nobody else knows when it was called.
                    self.wakes.count(self.mark.saturating_sub(seed.created_tsc));
                }
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
        let account = vms.tenants().get(seed.tenant).and_then(|(number, _)| u16::try_from(number).ok());
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
        if let Some(place) = self.accounts.get_mut(vm.seat.index()) {
            *place = account.unwrap_or(u16::MAX);
        }
        if let Some(image) = self.images.get(seed.image) {
            (vm.net, vm.pager) = (image.net, image.pager);
        }
        if !vm.attachment.is_none() {
            vm.disk = self.endpoints.first(Service::Disk);
        }
        Some((vm, reservation))
    }

    #[cold]
    pub fn cannot_start(&mut self, id: VmId, why: BuildError) {
        if self.guest_log.allow(self.board.now(), self.time.tsc_hz()).is_some() {
            say(Record::NotStarted { vm: id, why });
        }
    }

    /// A VM is admitted with all that it has. Components are told.
    #[inline]
    fn begin(&mut self, vm: &mut Vm<B>, memory: Memory<B>, registers: Registers) {
        vm.life.admit(memory, registers);
        vm.since_tsc = self.board.now();
        self.attach_pager(vm, false);
        self.attach(vm);
        self.now_ready(vm);
        self.attach_disk(vm);
        let now = self.board.now();
        self.lap_for(&mut vm.charges, now);
        self.counters.admitted_ticks = self.time.since_start(self.mark);
    }
}
