//! The VMs that have virtual disks: attached, served in turns, detached.

use crate::disks::{Disks, Host};
use crate::drivers::Controller;
use crate::guest::{Guest, Load, Next};
use crate::policy::{Discipline, Waiting};
use crate::rate::Rate;
use crate::sets::{Planned, Sets};
use crate::store::{Ask, JOBS, Outcome, Refused, Store};
use crate::uses::Uses;
use abi::attachment::{Attachment, mode};
use abi::disk::DiskReply;
use abi::disk_service::{DiskCommand, DiskEvent, no_disk};
use abi::guest_disk::{DiskOrder, status};
use abi::limits::Name;
use abi::note::TableBytes;
use abi::vm::{Seat, VmId};
use component::{Heap, Table, Tables, VmDisk};
use disk_format::{Entry, Kind};
use ring::SharedMemory;

/// Requests that are taken before others come to their turn, so that nobody's nonsense holds them up.
const BATCH: usize = 64;
/// How often in a step requests that were taken are begun, before others come to their turn. It takes from the rings once more.
pub const ROUNDS: usize = 2;
/// How often in a second the core is told at most what was done for a VM.
const ACCOUNTS: u64 = 2;
/// VMs of which it is told in a step.
const TOLD_AT_ONCE: usize = 16;
/// VMs that hear of completions at the end of a step: no more than requests end in it.
const BELLS: usize = (ROUNDS + 1) * BATCH + ROUNDS * JOBS;

/// What is needed of the machine.
pub trait Machine {
    /// The pages of the VM in a seat.
    fn disk(&mut self, seat: Seat) -> Option<VmDisk>;
    /// The VM is to look at its disk.
    fn raise(&mut self, vm: VmId);
    /// Ticks of the clock.
    fn now(&mut self) -> u64;
    /// Ticks in a second.
    fn hz(&self) -> u64;
    /// Tells the core.
    fn tell(&mut self, command: DiskCommand);
}

/// A seat.
// They lie in a table, and there is nothing to put the large ones into instead.
#[derive(Default)]
#[allow(clippy::large_enum_variant)]
enum Place {
    #[default]
    Free,
    /// Its VM is attached when all are known that had disks before.
    Waits {
        vm: VmId,
        disk: Name,
        mode: u16,
        rate: u16,
        weight: u16,
    },
    Attached(Guest),
}

/// Whether the VM of a slot is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Absence {
    /// It is not, or has no virtual disk.
    #[default]
    No,
    /// It is, and has its virtual disk: that one is in use.
    Out,
}

/// What the tables of a striper with this discipline take.
// A seat takes no more than some hundred bytes.
#[allow(clippy::cast_possible_truncation)]
pub const fn tables<D: Discipline>() -> TableBytes {
    let per_seat = size_of::<Place>() as u32 + D::SEAT_BYTES + 2 * Heap::<u64>::SEAT_BYTES;
    TableBytes { per_seat, per_slot: size_of::<Absence>() as u32, ..TableBytes::NONE }
}

/// Virtual disks that are named where one is not known.
const NAMED: usize = 12;

/// The names of the virtual disks that there are, as the end of a sentence, where they are shown.
struct Known<'s> {
    sets: &'s Sets,
    shown: bool,
}

impl core::fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if !self.shown {
            return Ok(());
        }
        let entries = (0..).map_while(|index| self.sets.entry(index));
        let mut disks = entries.filter(|entry| matches!(entry.kind, Kind::Disk { .. }));
        for (count, entry) in disks.by_ref().take(NAMED).enumerate() {
            write!(f, "{}{}", if count == 0 { "; it has " } else { ", " }, Name(entry.name.0))?;
        }
        match disks.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A request that the store has.
#[derive(Clone, Copy)]
struct Flight {
    seat: Seat,
    vm: VmId,
    id: u32,
    /// Where what is read is to be put.
    slot: Option<u16>,
    /// It is to write a block.
    writes: bool,
    since: u64,
}

/// What was taken from VMs' rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// There is perhaps more to take at once.
    pub more: bool,
    /// The store was given something.
    pub began: bool,
}

/// All of them.
pub struct Guests<D> {
    places: Table<Place>,
    absences: Table<Absence>,
    discipline: D,
    /// Seats whose VMs may not ask before a time.
    resting: Heap<u64>,
    /// Seats with when the core is to be told what was done for their VMs.
    accounts: Heap<u64>,
    uses: Uses,
    flights: [Option<Flight>; JOBS],
    bells: heapless::Vec<Seat, BELLS>,
    /// All VMs are known that a predecessor has served.
    told: bool,
}

impl<D: Discipline> Guests<D> {
    /// Nobody yet.
    pub fn new(tables: &mut Tables, uses: Uses) -> Self {
        Guests {
            places: tables.per_seat(),
            absences: tables.per_slot(),
            discipline: D::new(tables),
            resting: Heap::new(tables),
            accounts: Heap::new(tables),
            uses,
            flights: [None; JOBS],
            bells: heapless::Vec::new(),
            told: false,
        }
    }

    /// The core says something.
    pub fn hear(&mut self, event: DiskEvent, sets: &Sets, machine: &mut impl Machine) {
        match event {
            DiskEvent::Hello => {}
            DiskEvent::Attach { vm, seat, disk, mode, rate, again, weight } => {
                self.release(seat, machine);
                if again || self.told {
                    self.attach((vm, seat), Attachment { disk, mode, rate }, weight, again, sets, machine);
                } else if let Some(place) = self.places.reach(seat.index()) {
                    *place = Place::Waits { vm, disk, mode, rate, weight };
                }
            }
            DiskEvent::Told => {
                self.told = true;
                // Once in a start.
                for number in 0..self.places.len() {
                    let Some(&Place::Waits { vm, disk, mode, rate, weight }) = self.places.get(number) else {
                        continue;
                    };
                    let Ok(seat) = u16::try_from(number).map(Seat::new) else { continue };
                    self.release(seat, machine);
                    self.attach((vm, seat), Attachment { disk, mode, rate }, weight, false, sets, machine);
                }
            }
            DiskEvent::Detach { vm, seat } => {
                self.release(seat, machine);
                machine.tell(DiskCommand::Detached { vm });
            }
            DiskEvent::Leave { vm, seat } => {
                let left = self.leave(vm, seat, machine);
                machine.tell(if left { DiskCommand::Left { vm } } else { DiskCommand::Stays { vm } });
            }
            DiskEvent::Out { vm, disk, mode } => self.is_out(vm, disk, mode == mode::READ_WRITE, sets),
            DiskEvent::Gone { vm, disk } => {
                if self.is_back(vm)
                    && let Some(entry) = sets.disk_called(disk)
                {
                    self.uses.give_back(entry);
                }
            }
        }
    }

    /// Takes leave of the VM in a seat, which is to go out: it keeps its virtual disk, and nobody touches its pages. False, and nothing has changed, while
    /// something of it is under way, and where it has not been given its disk yet.
    fn leave(&mut self, vm: VmId, seat: Seat, machine: &mut impl Machine) -> bool {
        let Some(place) = self.places.get_mut(seat.index()) else { return true };
        match place {
            Place::Attached(guest) if guest.vm == vm => {
                if !guest.is_at_rest() {
                    return false;
                }
                if let Some(absence) = self.absences.reach(vm.slot.index()) {
                    *absence = if guest.entry.is_some() { Absence::Out } else { Absence::No };
                } else if guest.entry.is_some() {
                    // There is nowhere to write down that the disk is in use.
                    return false;
                }
                if let Some(done) = guest.unsaid() {
                    machine.tell(DiskCommand::Used { vm, done });
                }
                *place = Place::Free;
                self.resting.remove(seat);
                self.accounts.remove(seat);
                true
            }
            Place::Waits { vm: waits, .. } if *waits == vm => false,
            Place::Free | Place::Attached(_) | Place::Waits { .. } => true,
        }
    }

    /// A VM is out, and had this virtual disk under a predecessor: so it has it now. Where it cannot be had any more, its requests fail when it comes in.
    fn is_out(&mut self, vm: VmId, disk: Name, to_write: bool, sets: &Sets) {
        // Beyond the machine's slots there is no VM.
        if self.absences.reach(vm.slot.index()).is_none_or(|absence| *absence == Absence::Out) {
            return;
        }
        match self.find(disk, to_write, sets) {
            Ok(_) => {
                if let Some(absence) = self.absences.reach(vm.slot.index()) {
                    *absence = Absence::Out;
                }
            }
            Err(why) => log::warn!("{vm}, which is out: disk {disk}: {}", crate::no_disk::text(why)),
        }
    }

    /// A VM is out no longer. Whether it was, and has a virtual disk.
    fn is_back(&mut self, vm: VmId) -> bool {
        let absence = self.absences.get_mut(vm.slot.index());
        absence.is_some_and(|absence| core::mem::take(absence) == Absence::Out)
    }

    /// Whoever had a seat has it no more.
    fn release(&mut self, seat: Seat, machine: &mut impl Machine) {
        self.resting.remove(seat);
        self.tell_account(seat, machine);
        let Some(place) = self.places.get_mut(seat.index()) else { return };
        if let Place::Attached(Guest { entry: Some(entry), .. }) = core::mem::take(place) {
            self.uses.give_back(entry);
        }
    }

    /// Gives a VM its disk, or says why not. One that has had it before keeps what there is of it.
    fn attach(
        &mut self,
        (vm, seat): (VmId, Seat),
        Attachment { disk: name, mode, rate }: Attachment,
        weight: u16,
        again: bool,
        sets: &Sets,
        machine: &mut impl Machine,
    ) {
        let to_write = mode == mode::READ_WRITE;
        // Who was out has its disk already.
        let kept = if self.is_back(vm) { sets.disk_called(name) } else { None };
        let found = match kept {
            Some(entry) => Ok(entry),
            None => self.find(name, to_write, sets),
        };
        if let Err(why) = found {
            let known = Known { sets, shown: why == no_disk::NO_SUCH_DISK };
            log::warn!("{vm}: disk {name}: {}{known}", crate::no_disk::text(why));
        }
        let entry = match found {
            Ok(entry) => Some(entry),
            Err(_) if again => None,
            Err(why) => return machine.tell(DiskCommand::Refused { vm, why }),
        };
        let place = self.places.reach(seat.index());
        let Some((place, disk)) = place.zip(machine.disk(seat)) else {
            if let Some(entry) = entry {
                self.uses.give_back(entry);
            }
            return machine.tell(DiskCommand::Refused { vm, why: no_disk::NO_ROOM });
        };
        let rate = Rate::new(rate, machine.now(), machine.hz());
        let entry = entry.and_then(|number| Some((number, sets.entry(number)?)));
        let guest = Guest::new(vm, rate, entry, !to_write, disk);
        if let Some((_, entry)) = entry {
            guest.announce(name, entry.blocks);
        }
        *place = Place::Attached(guest);
        self.discipline.attach(seat, weight);
        self.discipline.enqueue(seat);
        // Who was out finds all as it was, and waits for nothing.
        if kept.is_none() {
            machine.raise(vm);
        }
    }

    /// Takes a virtual disk for a VM: its place in the directory.
    fn find(&mut self, name: Name, to_write: bool, sets: &Sets) -> Result<u16, u16> {
        if sets.members() == 0 {
            return Err(no_disk::NO_SET);
        }
        let entry = sets.disk_called(name).ok_or(no_disk::NO_SUCH_DISK)?;
        let never_written = sets.entry(entry).is_none_or(|entry| entry.kind == Kind::Disk { read_only: true });
        if to_write && (never_written || !sets.is_writable()) {
            return Err(no_disk::READ_ONLY);
        }
        if self.uses.take(entry, to_write) { Ok(entry) } else { Err(no_disk::IN_USE) }
    }

    /// A virtual disk that nobody has is nobody's until it is given back. False when somebody has it.
    #[must_use]
    pub fn lock(&mut self, entry: u16) -> bool {
        self.uses.take(entry, true)
    }

    /// Whether a VM has it to write, or nobody is given it.
    pub fn is_written(&self, entry: u16) -> bool {
        self.uses.is_written(entry)
    }

    /// It can be given to VMs again.
    pub fn unlock(&mut self, entry: u16) {
        self.uses.give_back(entry);
    }

    /// The directory has changed as it was planned: places have others, and who had a virtual disk of which there is a snapshot now has the one that lies on it.
    pub fn altered(&mut self, planned: &Planned) {
        planned.apply(&mut self.uses, |uses, at, _| uses.insert(at), Uses::remove, |_, _, _| {});
        // Once in a change.
        for seat in 0..self.places.len() {
            if let Some(Place::Attached(guest)) = self.places.get_mut(seat) {
                // Nobody has the one that goes.
                guest.entry = guest.entry.and_then(|before| planned.place_after(before));
            }
        }
        let below = planned.below.and_then(|before| planned.place_after(before));
        if let Some((old, above)) = below.zip(planned.place_of_new()) {
            self.went_up(old, above);
        }
    }

    /// Those that have the virtual disk at this place of the directory have the one that lies on it from now on.
    fn went_up(&mut self, old: u16, (place, above): (u16, Entry)) {
        self.uses.go_over(old, place);
        for seat in 0..self.places.len() {
            if let Some(Place::Attached(guest)) = self.places.get_mut(seat)
                && guest.entry == Some(old)
            {
                (guest.entry, guest.what) = (Some(place), Some(above));
            }
        }
    }

    /// When the next VM may ask again that has asked for as much as it may, or the core is to be told what was done for one; `u64::MAX` when there is none.
    pub fn due(&self) -> u64 {
        let first = |heap: &Heap<u64>| heap.first().map_or(u64::MAX, |(_, due)| due);
        first(&self.resting).min(first(&self.accounts))
    }

    /// Tells the core what was done for VMs, where it is time.
    pub fn tell_accounts(&mut self, now: u64, machine: &mut impl Machine) {
        for _ in 0..TOLD_AT_ONCE {
            let Some((seat, _)) = self.accounts.first().filter(|(_, due)| *due <= now) else { return };
            self.tell_account(seat, machine);
        }
    }

    /// Tells the core what was done for the VM in a seat since it was told last.
    fn tell_account(&mut self, seat: Seat, machine: &mut impl Machine) {
        self.accounts.remove(seat);
        if let Some(Place::Attached(guest)) = self.places.get_mut(seat.index())
            && let Some(done) = guest.unsaid()
        {
            machine.tell(DiskCommand::Used { vm: guest.vm, done });
        }
    }

    /// The VM in a seat has kicked its disk.
    pub fn kicked(&mut self, seat: Seat) {
        self.discipline.enqueue(seat);
    }

    /// Gives the store what VMs ask for, in the order of the discipline, as long as it has room. `time`: ticks of the clock, and in a second.
    pub fn serve<C: Controller, H: Host>(
        &mut self,
        store: &mut Store,
        sets: &Sets,
        disks: &Disks<C, H>,
        (now, hz): (u64, u64),
    ) -> Served {
        let mut began = false;
        for _ in 0..BATCH {
            if let Some((seat, _)) = self.resting.first().filter(|(_, due)| *due <= now) {
                self.resting.remove(seat);
                self.discipline.enqueue(seat);
            }
            if let Some(seat) = self.discipline.wants() {
                self.take(seat, (now, hz));
                continue;
            }
            let Some(flight) = self.flights.iter().position(Option::is_none) else {
                return Served { more: false, began };
            };
            if !store.has_room() {
                return Served { more: false, began };
            }
            let Some(waiting) = self.discipline.next() else { return Served { more: false, began } };
            self.begin(&waiting, (flight, now), store, sets, disks);
            began = true;
        }
        Served { more: true, began }
    }

    /// Takes the next request of the VM in a seat, for which the discipline has asked, from its ring.
    fn take(&mut self, seat: Seat, (now, hz): (u64, u64)) {
        let Some(Place::Attached(guest)) = self.places.get_mut(seat.index()) else { return self.discipline.nothing() };
        if let Some(due) = guest.rate.due(now, hz) {
            self.resting.set(seat, due);
            return self.discipline.nothing();
        }
        let request = match guest.next() {
            Next::Request(request) => request,
            Next::Nothing => return self.discipline.nothing(),
            // One that lies does not keep its turn.
            Next::Again => return self.discipline.taken(None),
        };
        guest.rate.spend(now, hz);
        let order = guest
            .what
            .as_ref()
            .ok_or(status::FAILED)
            .and_then(|entry| Ok((entry, guest.order(&request, entry.blocks)?)));
        match order {
            Ok((entry, order)) => {
                let at = order.block().and_then(|block| entry.data(block)).unwrap_or(u64::MAX);
                self.discipline.taken(Some(Waiting { vm: guest.vm, seat, id: request.id, order, at }));
            }
            Err(status) => {
                let _ = guest.complete(request.id, status);
                self.discipline.taken(None);
                self.ring(seat);
            }
        }
    }

    /// Gives a request that was taken to the store, unless its VM is gone.
    fn begin<C: Controller, H: Host>(
        &mut self,
        waiting: &Waiting,
        (flight, now): (usize, u64),
        store: &mut Store,
        sets: &Sets,
        disks: &Disks<C, H>,
    ) {
        let &Waiting { vm, seat, id, order, .. } = waiting;
        let Some(Place::Attached(guest)) = self.places.get_mut(seat.index()) else { return };
        if guest.vm != vm {
            return;
        }
        match ask(guest, order, flight, store, sets, disks) {
            Ok(slot) => {
                let writes = matches!(order, DiskOrder::Write { .. });
                self.flights[flight] = Some(Flight { seat, vm, id, slot, writes, since: now });
            }
            Err(status) => {
                if guest.complete(id, status) {
                    self.discipline.enqueue(seat);
                }
                self.ring(seat);
            }
        }
    }

    /// A request that the store had has ended. `memory`: where what was read lies.
    pub fn ended(&mut self, (token, outcome): (u64, Outcome), memory: &SharedMemory, (now, hz): (u64, u64)) {
        let flight = usize::try_from(token).ok().and_then(|token| self.flights.get_mut(token)?.take());
        let Some(Flight { seat, vm, id, slot, writes, since }) = flight else { return };
        let Some(Place::Attached(guest)) = self.places.get_mut(seat.index()) else { return };
        // It has ended meanwhile, and another one has its seat.
        if guest.vm != vm {
            return;
        }
        let moved = writes && outcome == Outcome::Done || matches!(outcome, Outcome::Data(_));
        if guest.took(now.saturating_sub(since), hz, moved) {
            self.accounts.set(seat, now.saturating_add(hz / ACCOUNTS));
        }
        let status = match (outcome, slot) {
            (Outcome::Done, _) => status::DONE,
            (Outcome::Zeros, _) => status::ZEROS,
            (Outcome::Data(at), Some(slot)) if guest.fill(slot, memory, at).is_some() => status::DONE,
            (Outcome::Corrupt, _) => status::CORRUPT,
            (Outcome::Failed | Outcome::Data(_), _) => status::FAILED,
        };
        if guest.complete(id, status) {
            self.discipline.enqueue(seat);
        }
        self.ring(seat);
    }

    /// How the first VM does that has a disk and sits in the seat of this number, or behind it.
    pub fn load(&self, from: u16) -> DiskReply {
        for number in usize::from(from)..self.places.len() {
            let (Some(Place::Attached(guest)), Ok(index)) = (self.places.get(number), u16::try_from(number)) else {
                continue;
            };
            let Load { requests, errors, queue, latencies } = guest.load();
            let (p50_us, p99_us) = (latencies.quantile(50), latencies.quantile(99));
            let disk = guest.what.map_or(Name::EMPTY, |entry| Name(entry.name.0));
            return DiskReply::VmLoad { index, vm: guest.vm, disk, requests, errors, queue, p50_us, p99_us };
        }
        DiskReply::None
    }

    /// The VM in a seat has completions.
    fn ring(&mut self, seat: Seat) {
        if !self.bells.contains(&seat) {
            // As many as can end.
            let _ = self.bells.push(seat);
        }
    }

    /// Says to the VMs that have completions, and listen, that they have some.
    pub fn ring_all(&mut self, machine: &mut impl Machine) {
        while let Some(seat) = self.bells.pop() {
            if let Some(Place::Attached(guest)) = self.places.get(seat.index())
                && guest.listens()
            {
                machine.raise(guest.vm);
            }
        }
    }
}

/// Asks the store for what a VM wants, with this token. The slot that what is read belongs into.
///
/// # Errors
/// The status with which it has ended at once.
fn ask<C: Controller, H: Host>(
    guest: &Guest,
    order: DiskOrder,
    token: usize,
    store: &mut Store,
    sets: &Sets,
    disks: &Disks<C, H>,
) -> Result<Option<u16>, u16> {
    let entry = guest.what.as_ref().ok_or(status::FAILED)?;
    let (ask, slot, data) = match order {
        DiskOrder::Read { block, slot } => (Ask::Read(block), Some(slot), None),
        DiskOrder::Write { block, slot } => (Ask::Write(block), None, Some(guest.block_in(slot))),
        DiskOrder::Flush => (Ask::Flush, None, None),
        DiskOrder::Discard { block } => (Ask::Discard(block), None, None),
    };
    match store.ask((token as u64, entry, ask), data.as_ref(), sets, disks) {
        Ok(()) => Ok(slot),
        Err(Refused::Nonsense) => Err(status::READ_ONLY),
        Err(Refused::Full | Refused::Gone) => Err(status::FAILED),
    }
}

#[cfg(test)]
#[path = "guests_tests.rs"]
mod tests;
