//! The VMs by slot: a record for each, and for one that was admitted a seat, and its context in a frame of its own.

use super::args::{Arena, BootArgs};
use super::seats::Seats;
use super::seed::Seed;
use super::tenants::{Account, OverQuota, Tenants};
use super::vm::Vm;
use crate::memory::PhysAddr;
use crate::memory::phys::index;
use abi::attachment::Attachment;
use abi::charges::{Charges, DiskUse};
use abi::claim::Claim;
use abi::limits::LIVE_IMAGES;
use abi::record::{Args, Cell, NONE, Record, place};
use abi::swap::{Bundle, tier};
use abi::tenant::Tenant;
use abi::vm::{ImageId, Seat, Slot, VmId};
use backend::Backend;
use core::marker::PhantomData;

/// What boot has written into the first slots and cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Slots from 0 on that hold VMs which nobody has been told of yet.
    pub slots: u32,
    /// Cells from 0 on that hold their arguments.
    pub cells: u32,
}

/// Why the table takes no VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCreated {
    /// Its id is not the next one.
    NotNext,
    /// Its arguments find no room.
    ArgumentsTaken,
    /// Its tenant may have no more.
    OverQuota(OverQuota),
}

/// What is known of a VM that goes out.
#[derive(Clone, Copy, Debug)]
pub struct Leavings {
    /// What of it lies in the pool.
    pub bundle: Bundle,
    /// Frames that it holds.
    pub frames: u32,
    /// What is pending for it.
    pub pending: u64,
    /// The directory of its pages that are out one by one ([`super::Away::keep`]).
    pub away: u32,
}

/// All slots. Owns the context frames of its VMs: nobody else makes a pointer to one.
pub struct Table<B: Backend> {
    /// Frame numbers of the contexts of those that were admitted, 0 for the others. Apart from the records, because every exit,
    /// message and turn begins with a look here.
    contexts: &'static mut [u32],
    records: &'static mut [Record],
    arena: Arena,
    seats: Seats,
    /// The slot that was freed last; it is the next to be used.
    free: u32,
    /// No slot from here on was ever used.
    fresh: u32,
    living: usize,
    /// VMs that are out.
    out: usize,
    /// VMs of which something lies in the pool, and how many bytes that is.
    pooled: (usize, u64),
    /// Those of them that wait for admission.
    pooled_waiting: usize,
    /// VMs whose memory lies on the disks.
    on_disk: u32,
    /// VMs that live of each image, by its number.
    of_images: [u32; LIVE_IMAGES],
    /// What tenants have and may have. VMs that boot has written count from the start, whether they live yet or not.
    tenants: Tenants,
    vms: PhantomData<Vm<B>>,
}

/// Whether something of the VM of a record lies in the pool.
fn is_pooled(record: &Record) -> bool {
    !record.bundle.is_none() && !record.bundle.is_on_disk()
}

impl<B: Backend> Table<B> {
    /// A table without a VM but for those that boot has written.
    ///
    /// # Panics
    /// The tables differ in length, or are shorter than what was written.
    pub fn new(
        contexts: &'static mut [u32],
        records: &'static mut [Record],
        cells: &'static mut [Cell],
        seats: &'static mut [u32],
        accounts: &'static mut [Account],
        written: Written,
    ) -> Self {
        assert_eq!(contexts.len(), records.len(), "a context and a record for each slot");
        contexts.fill(0);
        const { assert!(size_of::<Vm<B>>() <= index(abi::limits::PAGE_SIZE), "the context must fit into one frame") };
        const { assert!(align_of::<Vm<B>>() <= index(abi::limits::PAGE_SIZE)) };
        records[written.slots as usize..].fill(Record::EMPTY);
        let mut tenants = Tenants::new(accounts);
        for record in &records[..written.slots as usize] {
            tenants.begins(record.tenant(), record.claim.limit);
        }
        let (arena, seats) = (Arena::new(cells, written.cells), Seats::new(seats));
        Table {
            contexts,
            records,
            arena,
            seats,
            free: NONE,
            fresh: written.slots,
            living: 0,
            out: 0,
            pooled: (0, 0),
            pooled_waiting: 0,
            on_disk: 0,
            of_images: [0; LIVE_IMAGES],
            tenants,
            vms: PhantomData,
        }
    }

    /// How many slots there are from the first to the last that was ever used.
    pub fn used(&self) -> usize {
        self.fresh as usize
    }

    /// Frames that the VMs which boot has written are to have for sure. At boot only: it looks at each of them.
    pub fn written_reserves(&self) -> u64 {
        self.records[..self.used()].iter().map(|record| u64::from(record.claim.reserve)).sum()
    }

    /// All slots that were ever used. There may be a million: not for the core's own work.
    #[cfg(test)]
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<B> {
        (0..self.fresh).map(Slot::new)
    }

    /// Whose the VM of a slot is, which lives or which boot has written, and the frames that it counts for.
    #[cfg(test)]
    pub fn counts_for(&self, slot: Slot) -> Option<(abi::tenant::Tenant, u32)> {
        let record = self.record(slot).filter(|record| record.place != place::FREE)?;
        Some((record.tenant(), record.claim.limit))
    }

    /// The seats of admitted VMs.
    pub fn seats(&self) -> &Seats {
        &self.seats
    }

    /// How many slots there are.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.records.len()
    }

    /// VMs that live, admitted or not.
    pub fn living(&self) -> usize {
        self.living
    }

    /// How many VMs lie on the disks.
    pub fn on_disk(&self) -> u32 {
        self.on_disk
    }

    /// VMs of which something lies in the pool, and how many bytes that is.
    pub fn pooled(&self) -> (usize, u64) {
        self.pooled
    }

    /// VMs of which something lies in the pool and that wait for admission.
    pub fn pooled_waiting(&self) -> usize {
        self.pooled_waiting
    }

    /// Those of them that are out.
    pub fn out_count(&self) -> usize {
        self.out
    }

    /// The id of the VM that is created next; `None` when every slot is taken.
    pub fn next_id(&self) -> Option<VmId> {
        let number = if self.free == NONE { self.fresh } else { self.free };
        let generation = match self.records.get(Slot::new(number).index())?.generation.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        Some(VmId::new(number, generation))
    }

    /// The VM that boot has written into a slot begins to live, and waits for admission. `None` when there is none.
    pub fn bring_to_life(&mut self, slot: Slot, created_tsc: u64, stolen_ms: u32) -> Option<Seed> {
        let record = self.records.get_mut(slot.index()).filter(|record| record.place == place::WRITTEN)?;
        record.place = place::WAITING;
        (record.created_tsc, record.stolen_ms) = (created_tsc, stolen_ms);
        let image = record.image;
        self.begins(image);
        self.waiting_in(slot)
    }

    /// A VM that waits for admission, under the next id ([`Table::next_id`]), which is `seed.id`.
    ///
    /// # Errors
    /// [`NotCreated`]; nothing has changed.
    pub fn create(&mut self, seed: Seed, args: &[u8]) -> Result<(), NotCreated> {
        let Seed { id, image, ipv4, share, claim, tenant, disk, created_tsc, stolen_ms } = seed;
        if self.next_id() != Some(id) {
            return Err(NotCreated::NotNext);
        }
        self.tenants.check(tenant, claim.limit).map_err(NotCreated::OverQuota)?;
        let args = self.arena.store(args).ok_or(NotCreated::ArgumentsTaken)?;
        self.tenants.begins(tenant, claim.limit);
        let record = &mut self.records[id.slot.index()];
        match self.free {
            NONE => self.fresh += 1,
            _ => self.free = record.next,
        }
        let (place, generation) = (place::WAITING, id.generation);
        let tenant = tenant.raw();
        *record = Record {
            place,
            generation,
            image,
            ipv4,
            share,
            claim,
            tenant,
            args,
            created_tsc,
            stolen_ms,
            disk,
            ..Record::EMPTY
        };
        self.begins(image);
        Ok(())
    }

    /// A VM of this image begins to live.
    fn begins(&mut self, image: ImageId) {
        self.living += 1;
        if let Some(of_image) = self.of_images.get_mut(image.index()) {
            *of_image += 1;
        }
    }

    /// What tenants have and may have.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The same, to be changed.
    pub fn tenants_mut(&mut self) -> &mut Tenants {
        &mut self.tenants
    }

    /// How many VMs live that were made of this image: as long as there are some, its frames are theirs, too.
    pub fn of_image(&self, image: ImageId) -> u32 {
        self.of_images.get(image.index()).copied().unwrap_or(0)
    }

    fn record(&self, slot: Slot) -> Option<&Record> {
        self.records.get(slot.index())
    }

    /// What the VM of a record is made from.
    fn seed(slot: Slot, record: &Record) -> Seed {
        let &Record { generation, image, ipv4, share, claim, disk, created_tsc, stolen_ms, .. } = record;
        let tenant = record.tenant();
        Seed { id: VmId { slot, generation }, image, ipv4, share, claim, tenant, disk, created_tsc, stolen_ms }
    }

    /// The VM in a slot, if it waits for admission.
    pub fn waiting_in(&self, slot: Slot) -> Option<Seed> {
        let record = self.record(slot)?;
        (record.place == place::WAITING).then(|| Self::seed(slot, record))
    }

    /// The VM in a slot, if it is out.
    pub fn out_in(&self, slot: Slot) -> Option<Seed> {
        let record = self.record(slot)?;
        (record.place == place::OUT).then(|| Self::seed(slot, record))
    }

    /// The VM with this id, if it is out.
    pub fn out(&self, id: VmId) -> Option<Seed> {
        self.out_in(id.slot).filter(|seed| seed.id == id)
    }

    /// A VM that waits for admission and is in no queue is out from now on.
    pub fn put_out(&mut self, id: VmId) {
        let waits = self.waiting(id).is_some();
        if let Some(record) = self.records.get_mut(id.slot.index()).filter(|_| waits) {
            record.place = place::OUT;
            self.out += 1;
        }
    }

    /// A VM that is out waits for admission from now on. `None` when there is none with this id.
    pub fn come_in(&mut self, id: VmId, now: u64, stolen_ms: u32) -> Option<Seed> {
        self.out(id)?;
        let record = self.records.get_mut(id.slot.index())?;
        self.out -= 1;
        // It begins now: how long it waits is counted from here.
        record.place = place::WAITING;
        (record.created_tsc, record.stolen_ms) = (now, stolen_ms);
        self.pooled_waiting += usize::from(is_pooled(record));
        self.waiting_in(id.slot)
    }

    /// What lies in the pool of the VM in a slot, which is out or on its way in.
    pub fn bundle(&self, slot: Slot) -> Option<Bundle> {
        self.record(slot).map(|record| record.bundle).filter(|bundle| !bundle.is_none())
    }

    /// The same; the record has it no longer.
    pub fn take_bundle(&mut self, slot: Slot) -> Option<Bundle> {
        let record = self.records.get_mut(slot.index())?;
        self.pooled_waiting -= usize::from(record.place == place::WAITING && is_pooled(record));
        (record.ran_ticks, record.charges, record.frames) = (0, Charges::NONE, 0);
        let bundle = Some(core::mem::replace(&mut record.bundle, Bundle::NONE)).filter(|bundle| !bundle.is_none())?;
        if bundle.is_on_disk() {
            self.on_disk -= 1;
        } else {
            let tenant = record.tenant();
            self.pooled.0 -= 1;
            self.pooled.1 -= u64::from(bundle.bytes);
            self.tenants.unpools(tenant, bundle.bytes.into());
        }
        Some(bundle)
    }

    /// The directory of the pages that the VM in a slot has out one by one, while it is out itself; 0 for none.
    pub fn away(&self, slot: Slot) -> u32 {
        let record = self.record(slot).filter(|record| matches!(record.place, place::OUT | place::WAITING));
        record.map(|record| record.next).filter(|&next| next != NONE).unwrap_or(0)
    }

    /// The same; the record has it no longer.
    pub fn take_away(&mut self, slot: Slot) -> u32 {
        let away = self.away(slot);
        if let Some(record) = self.records.get_mut(slot.index()).filter(|_| away != 0) {
            record.next = NONE;
        }
        away
    }

    /// A page of the VM in a slot takes so many bytes of the pool.
    pub fn pools_page(&mut self, slot: Slot, bytes: u32) {
        let Some(tenant) = self.record(slot).map(Record::tenant) else { return };
        self.pooled.1 += u64::from(bytes);
        self.tenants.pools(tenant, bytes);
    }

    /// Pages of the VM in a slot take so many bytes of the pool no longer.
    pub fn unpools_pages(&mut self, slot: Slot, bytes: u64) {
        if let Some(tenant) = self.record(slot).map(Record::tenant) {
            self.unpools_of(tenant, bytes);
        }
    }

    /// The same, of a VM of this tenant which may be gone.
    pub fn unpools_of(&mut self, tenant: Tenant, bytes: u64) {
        self.pooled.1 = self.pooled.1.saturating_sub(bytes);
        self.tenants.unpools(tenant, bytes);
    }

    /// The bundle of the VM in a slot, which lies in the pool, lies in the slot's swap region from now on. What it was; `None`, and nothing has changed, for any other.
    pub fn move_to_disk(&mut self, slot: Slot) -> Option<Bundle> {
        let record = self.records.get_mut(slot.index())?;
        let old = Some(record.bundle).filter(|_| is_pooled(record))?;
        self.pooled_waiting -= usize::from(record.place == place::WAITING);
        record.bundle = Bundle { tier: tier::DISK, place: slot.number(), ..old };
        let tenant = record.tenant();
        self.pooled.0 -= 1;
        self.pooled.1 -= u64::from(old.bytes);
        self.tenants.unpools(tenant, old.bytes.into());
        self.on_disk += 1;
        Some(old)
    }

    /// The VM in a slot, wherever it is.
    pub fn named(&self, slot: Slot) -> Option<VmId> {
        let record = self.record(slot)?;
        let lives = matches!(record.place, place::OUT | place::WAITING | place::ADMITTED);
        lives.then_some(VmId { slot, generation: record.generation })
    }

    /// What the VM in a slot is created from.
    pub fn image_of(&self, slot: Slot) -> Option<ImageId> {
        self.record(slot).map(|record| record.image)
    }

    /// The virtual disk of the VM in a slot.
    pub fn disk(&self, slot: Slot) -> Attachment {
        self.record(slot).map_or(Attachment::NONE, |record| record.disk)
    }

    /// What was done with it for that VM, wherever that is: the context of one that is in has no room for it.
    pub fn disk_use(&self, slot: Slot) -> DiskUse {
        self.record(slot).map_or(DiskUse::NONE, |record| record.disk_use)
    }

    /// So much more was done with it.
    pub fn use_disk(&mut self, slot: Slot, done: DiskUse) {
        if let Some(record) = self.records.get_mut(slot.index()) {
            record.disk_use = record.disk_use.and(done);
        }
    }

    /// What the VM in a slot may claim of the machine's memory.
    pub fn claim(&self, slot: Slot) -> Claim {
        self.record(slot).map_or(Claim::UNSAID, |record| record.claim)
    }

    /// Ticks that the VM in a slot, which is out, had run, and what was charged to it beside.
    pub fn spent(&self, slot: Slot) -> (u64, Charges) {
        self.record(slot).map_or((0, Charges::NONE), |record| (record.ran_ticks, record.charges))
    }

    /// What the record is charged with of the VM in a slot, which is out.
    pub fn charges_mut(&mut self, slot: Slot) -> Option<&mut Charges> {
        self.records.get_mut(slot.index()).map(|record| &mut record.charges)
    }

    /// Frames without which a VM that is not in does not come in.
    pub fn wants(&self, seed: &Seed) -> u32 {
        self.record(seed.id.slot).map_or(0, |record| record.frames).max(seed.claim.reserve)
    }

    /// A VM that is in goes out. Its context frame, to which nothing points any more; `None`, and nothing has changed, when there is none
    /// with this id.
    pub fn go_out(&mut self, id: VmId, leavings: &Leavings) -> Option<PhysAddr> {
        let vm = self.by_id(id)?;
        let (seat, ran_ticks, charges, ipv4) = (vm.seat, vm.ran_ticks, vm.charges, vm.ipv4);
        self.seats.give_back(seat);
        let record = self.records.get_mut(id.slot.index())?;
        let &Leavings { bundle, frames, pending, away } = leavings;
        (record.place, record.ipv4, record.early) = (place::OUT, ipv4, pending);
        record.next = if away == 0 { NONE } else { away };
        (record.bundle, record.frames, record.ran_ticks, record.charges) = (bundle, frames, ran_ticks, charges);
        // Whoever held it back has said so of a VM that idled.
        record.held_by = 0;
        let tenant = record.tenant();
        self.out += 1;
        self.pooled.0 += 1;
        self.pooled.1 += u64::from(bundle.bytes);
        self.tenants.pools(tenant, bundle.bytes);
        self.drop_context(id.slot)
    }

    /// Forget the context in a slot. Its frame; `None` when there is none.
    fn drop_context(&mut self, slot: Slot) -> Option<PhysAddr> {
        let context = core::mem::take(self.contexts.get_mut(slot.index())?);
        if context == 0 {
            return None;
        }
        let frame = PhysAddr::from_frame(u64::from(context));
        // SAFETY: as in `get`; nobody finds the VM again.
        unsafe { core::ptr::drop_in_place::<Vm<B>>(frame.as_ptr()) };
        Some(frame)
    }

    /// The VM with this id, if it waits for admission.
    pub fn waiting(&self, id: VmId) -> Option<Seed> {
        self.waiting_in(id.slot).filter(|seed| seed.id == id)
    }

    /// Which start of the scheduler keeps the VM in a slot back, 0 for none.
    pub fn held_by(&mut self, slot: Slot) -> u32 {
        match self.get(slot) {
            Some(vm) => vm.held_by,
            None => self.record(slot).map_or(0, |record| record.held_by),
        }
    }

    /// This start of the scheduler keeps the VM in a slot back, which waits; 0 for none.
    pub fn hold_waiting(&mut self, slot: Slot, start: u32) {
        if let Some(record) = self.records.get_mut(slot.index()) {
            record.held_by = start;
        }
    }

    /// Make bits pending for a VM that waits for admission. False when there is none with this id.
    #[must_use]
    pub fn raise_early(&mut self, id: VmId, bits: u64) -> bool {
        let waits = self.waiting(id).is_some();
        if let Some(record) = self.records.get_mut(id.slot.index()).filter(|_| waits) {
            record.early |= bits;
        }
        waits
    }

    /// Make bits pending for a VM that is out.
    pub fn raise_out(&mut self, id: VmId, bits: u64) {
        let is_out = self.out(id).is_some();
        if let Some(record) = self.records.get_mut(id.slot.index()).filter(|_| is_out) {
            record.early |= bits;
        }
    }

    /// What was made pending for the VM in a slot while it was not in.
    pub fn take_early(&mut self, slot: Slot) -> u64 {
        self.records.get_mut(slot.index()).map_or(0, |record| core::mem::take(&mut record.early))
    }

    /// What was made pending for the VM in a slot before its admission; and its boot arguments, which are kept no longer, in `into`.
    pub fn take_luggage(&mut self, slot: Slot, into: &mut BootArgs) -> u64 {
        into.clear();
        let Some(record) = self.records.get_mut(slot.index()) else { return 0 };
        let args = core::mem::replace(&mut record.args, Args::EMPTY);
        self.arena.read(args, into);
        self.arena.free(args);
        core::mem::take(&mut record.early)
    }

    /// Give a VM that waits a seat and put it into its context. `None`, and nothing has changed, when there is none with the seed's
    /// id, no seat is free, or the frame number does not fit.
    ///
    /// # Safety
    /// `frame` is a frame of zeros in the direct map that belongs to this VM's metadata and to which nothing else points.
    pub unsafe fn admit(&mut self, frame: PhysAddr, control_frame: PhysAddr, seed: Seed) -> Option<&mut Vm<B>> {
        self.waiting(seed.id)?;
        let number = u32::try_from(frame.frame()).ok().filter(|&number| number != 0)?;
        let seat = self.seats.take(seed.id.slot)?;
        let record = &mut self.records[seed.id.slot.index()];
        self.pooled_waiting -= usize::from(is_pooled(record));
        record.place = place::ADMITTED;
        self.contexts[seed.id.slot.index()] = number;
        let place: *mut Vm<B> = frame.as_ptr();
        // SAFETY: by this function's contract the frame is this table's alone, and it is large and aligned enough (checked
        // in `new`).
        unsafe { Vm::emplace(place, control_frame, seed, seat) };
        self.get(seed.id.slot)
    }

    /// The VM in a slot, if it was admitted.
    #[inline]
    pub fn get(&mut self, slot: Slot) -> Option<&mut Vm<B>> {
        let context = *self.contexts.get(slot.index())?;
        if context == 0 {
            return None;
        }
        let place: *mut Vm<B> = PhysAddr::from_frame(u64::from(context)).as_ptr();
        // SAFETY: `admit` wrote a VM there, `remove` has not been called since, and the borrow of the table makes this the
        // only reference to any of its VMs.
        Some(unsafe { &mut *place })
    }

    /// The VM in a seat.
    #[inline]
    pub fn in_seat(&mut self, seat: Seat) -> Option<&mut Vm<B>> {
        self.get(self.seats.slot(seat)?)
    }

    /// The VM with this id, if it was admitted and still lives.
    #[inline]
    pub fn by_id(&mut self, id: VmId) -> Option<&mut Vm<B>> {
        self.get(id.slot).filter(|vm| vm.id.raw() == id.raw())
    }

    /// Free a slot, and the seat of its VM. The context frame of its VM, if it was admitted; nothing points to it any more.
    pub fn remove(&mut self, slot: Slot) -> Option<PhysAddr> {
        if let Some(seat) = self.get(slot).map(|vm| vm.seat) {
            self.seats.give_back(seat);
        }
        let free = self.free;
        let record = self.records.get_mut(slot.index())?;
        if !matches!(record.place, place::OUT | place::WAITING | place::ADMITTED) {
            return None;
        }
        self.out -= usize::from(record.place == place::OUT);
        (record.place, record.next) = (place::FREE, free);
        let args = core::mem::replace(&mut record.args, Args::EMPTY);
        self.arena.free(args);
        self.free = slot.number();
        self.living -= 1;
        if let Some(of_image) = self.of_images.get_mut(record.image.index()) {
            *of_image -= 1;
        }
        self.tenants.ends(record.tenant(), record.claim.limit);
        self.drop_context(slot)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
