//! Admission, while a seat is free and so are as many frames as are to be kept for the VM, its reserve. Who is next says `gatekeeper=`: the tenants in turn, and of each
//! first come, first served, overtaken by nobody (`fifo`), or by those for whom there is room (`working_set`); or by deadlines (`deadline`). Under each of
//! them everybody's wait is bounded by what waits when it asks, and not by what asks later.
//!
//! The core's events tell how many frames, kept for no VM, and seats are free, as of the moment when they were written. A VM that was
//! admitted since has not taken its reserve and its seat yet by then; its first `Ready` is the sign that it has. So what VMs between
//! admission and that sign need counts as taken, too.

mod deadline;
mod fifo;
mod working_set;

use crate::Oddity;
use crate::queue::{Links, List};
use crate::round::Round;
use abi::note::TableBytes;
use abi::sched::{Admission, Room};
use abi::tenant::Tenant;
use abi::vm::{Slot, VmId};
use component::{Table, Tables};
use working_set::WorkingSet;

/// Ticks of the gatekeeper's time in a quantum.
const TICKS_PER_QUANTUM: u32 = 16;

/// Where a slot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing to do with admission.
    #[default]
    Elsewhere,
    /// In the queue.
    Waiting,
    /// In that of popular ones.
    Popular,
    /// To be set aside: it needs more frames than there are, and the core has not been told to keep it back.
    Unheld,
    /// Set aside.
    Parked,
    /// Admitted, but the core has not said so yet.
    Admitted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    frames: u32,
    generation: u32,
    tenant: Tenant,
    state: State,
    /// While it waits: when it asked, in the gatekeeper's time. Elsewhere: as the how manieth it left; 0: it was not in.
    at: u32,
}

/// The queue of VMs that wait for admission.
#[derive(Debug)]
pub struct Gatekeeper {
    slots: Table<Entry>,
    links: Links,
    waiting: Round,
    /// Those that were in lately, where they are told apart.
    popular: List<Slot>,
    admission: Admission,
    working_set: WorkingSet,
    /// Ticks of the TSC in one of the gatekeeper's, the TSC at which its time was 0, if that is known, and the time.
    tick: u64,
    zero: Option<u64>,
    now: u32,
    /// VMs that have left.
    departures: u32,
    unheld: List<Slot>,
    parked: List<Slot>,
    /// Frames for VMs on this machine, as far as is known: after a restart there turn out to be more when VMs end.
    capacity: u64,
    /// What is free by the newest event.
    free: Room,
    /// What those take of it that are [`State::Admitted`].
    promised: Room,
    /// The core has sent a VM back: wait until something is given back, rather than try again at once.
    held: bool,
    /// Whose turn it is, if the core has been told that room is wanted for this VM before others.
    announced: Option<Slot>,
}

impl Gatekeeper {
    /// What it takes of the tables.
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const TABLES: TableBytes =
        TableBytes { per_slot: size_of::<Entry>() as u32 + Links::BYTES + Round::SLOT_BYTES, ..TableBytes::NONE };

    /// An empty queue on a machine without frames.
    pub fn new(tables: &mut Tables) -> Self {
        Gatekeeper {
            slots: tables.per_slot(),
            links: Links::new(tables.per_slot()),
            waiting: Round::new(tables),
            popular: List::new(),
            admission: Admission::default(),
            working_set: WorkingSet::default(),
            tick: 1,
            zero: None,
            now: 0,
            departures: 0,
            unheld: List::new(),
            parked: List::new(),
            capacity: 0,
            free: Room::default(),
            promised: Room::default(),
            held: false,
            announced: None,
        }
    }

    /// Sets how many frames VMs can have on this machine.
    pub fn set_capacity(&mut self, frames: u64) {
        self.capacity = frames;
    }

    /// Sets who is chosen from now on, and how long a quantum is, in ticks of the TSC. Nobody waits.
    pub fn set_admission(&mut self, admission: Admission, quantum_ticks: u64) {
        self.admission = admission;
        (self.tick, self.zero) = ((quantum_ticks / u64::from(TICKS_PER_QUANTUM)).max(1), None);
    }

    /// Sets who is chosen from now on, of those that wait, too. They keep their order, and those that were popular come first.
    pub fn change(&mut self, admission: Admission) {
        self.admission = admission;
        self.working_set.reset();
        // Its time goes on from where it stood, or who has asked meanwhile were due at another time than who asks next.
        self.zero = None;
    }

    /// It is `now`, by the TSC.
    #[inline]
    pub fn set_time(&mut self, now: u64) {
        // Nobody looks at it otherwise, and a division takes long.
        if self.admission == Admission::Deadline {
            let zero = *self.zero.get_or_insert(now.wrapping_sub(u64::from(self.now).wrapping_mul(self.tick)));
            // Cut on purpose: only differences are looked at.
            self.now = u32::try_from((now.wrapping_sub(zero) / self.tick) & u64::from(u32::MAX)).unwrap_or(0);
        }
    }

    /// Forgets all VMs; `free` is free.
    pub fn reset(&mut self, free: Room) {
        self.slots.clear();
        self.waiting.clear();
        self.popular = List::new();
        self.working_set.reset();
        self.departures = 0;
        self.unheld = List::new();
        self.parked = List::new();
        self.promised = Room::default();
        self.held = false;
        self.announced = None;
        self.note_free(free);
    }

    /// The core has said what is free.
    fn note_free(&mut self, free: Room) {
        self.free = free;
        if free.frames > self.capacity {
            self.capacity = free.frames;
            // They have waited long enough: before the others, in their order.
            for set_aside in [&mut self.unheld, &mut self.parked] {
                while let Some(index) = set_aside.last() {
                    set_aside.remove(&mut self.links, index);
                    let slot = &mut self.slots[index.index()];
                    (slot.state, slot.at) = (State::Waiting, self.now);
                    self.waiting.push_front(&mut self.links, index, slot.tenant);
                }
            }
        }
    }

    /// How many VMs wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.len() + self.popular.len() + self.unheld.len() + self.parked.len()
    }

    /// `vm` of a `tenant` wants to be admitted and needs `frames`; `free` is free. One that was admitted and comes again (the core could
    /// not do it) keeps its place as the first.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] beyond the limits; [`Oddity::TooBig`] when it needs more than there is, and waits aside, so that it
    /// keeps nobody else waiting.
    pub fn arrived(&mut self, vm: VmId, tenant: Tenant, frames: u64, free: Room) -> Result<(), Oddity> {
        let known = *self.slots.reach(vm.slot.index()).ok_or(Oddity::BadVm(vm))?;
        self.note_free(free);
        // More than the whole address space: as good as any number that is too big.
        let needed = u32::try_from(frames).unwrap_or(u32::MAX);
        let fits = u64::from(needed) <= self.capacity;
        let same = known.generation == vm.generation;
        let waits = same && matches!(known.state, State::Waiting | State::Popular) && fits;
        let (mut state, mut at) = (known.state, known.at);
        if !waits {
            let sent_back = same && known.state == State::Admitted;
            let was_in = same && known.state == State::Elsewhere && deadline::is_popular(known.at, self.departures);
            let is_popular = self.admission == Admission::Deadline && (sent_back || was_in);
            self.forget(vm.slot);
            (state, at) = (if is_popular { State::Popular } else { State::Waiting }, self.now);
            match (fits, sent_back) {
                (false, _) => {
                    self.unheld.push_back(&mut self.links, vm.slot);
                    state = State::Unheld;
                }
                (true, true) if is_popular => self.popular.push_front(&mut self.links, vm.slot),
                (true, false) if is_popular => self.popular.push_back(&mut self.links, vm.slot),
                (true, true) => self.waiting.push_front(&mut self.links, vm.slot, tenant),
                (true, false) => self.waiting.push_back(&mut self.links, vm.slot, tenant),
            }
            self.held |= sent_back;
        }
        self.slots[vm.slot.index()] = Entry { frames: needed, generation: vm.generation, tenant, state, at };
        if fits { Ok(()) } else { Err(Oddity::TooBig { vm, frames, capacity: self.capacity }) }
    }

    /// `vm` can run: if it was being admitted, it has its frames now.
    #[inline]
    pub fn ready(&mut self, vm: VmId) {
        let Some(slot) = self.slots.get(vm.slot.index()) else { return };
        if slot.state == State::Elsewhere || slot.generation != vm.generation {
            return;
        }
        if slot.state == State::Admitted {
            self.free.frames = self.free.frames.saturating_sub(slot.frames.into());
            self.free.seats = self.free.seats.saturating_sub(1);
        }
        self.forget(vm.slot);
    }

    /// The core says what is free; VMs that it has sent back can be tried again.
    pub fn has_room(&mut self, free: Room) {
        self.note_free(free);
        self.held = false;
    }

    /// No room can be made for `vm`, which waits: it is behind all others now, of its tenant and of all tenants.
    pub fn later(&mut self, vm: VmId) {
        let Some(slot) = self.slots.get(vm.slot.index()) else { return };
        if !matches!(slot.state, State::Waiting | State::Popular) || slot.generation != vm.generation {
            return;
        }
        let tenant = slot.tenant;
        self.take_out(vm.slot);
        self.waiting.push_back(&mut self.links, vm.slot, tenant);
        let slot = &mut self.slots[vm.slot.index()];
        (slot.state, slot.at) = (State::Waiting, self.now);
        // The core has put it behind others, too.
        self.announced = None;
    }

    /// `vm` is gone, and `free` is free.
    pub fn ended(&mut self, vm: VmId, free: Room) {
        self.has_room(free);
        if self.slots.get(vm.slot.index()).is_some_and(|slot| slot.generation == vm.generation) {
            self.forget(vm.slot);
            self.departures = self.departures.wrapping_add(1).max(1);
            self.slots[vm.slot.index()].at = self.departures;
        }
    }

    /// The next VM that is set aside: the core is not to admit it by itself, and others are to pass it. The next `Admit` ends
    /// that.
    #[inline]
    pub fn hold(&mut self) -> Option<VmId> {
        let index = self.unheld.pop_front(&mut self.links)?;
        self.parked.push_back(&mut self.links, index);
        let slot = &mut self.slots[index.index()];
        slot.state = State::Parked;
        Some(VmId { slot: index, generation: slot.generation })
    }

    /// The next VM to admit, if there are a seat and frames for it. It counts as admitted from now on.
    #[inline]
    pub fn admit(&mut self) -> Option<VmId> {
        let (free, promised) = (self.free, self.promised);
        if self.held || free.seats <= promised.seats {
            return None;
        }
        let frames = free.frames.saturating_sub(promised.frames);
        let fits = |index: Slot| u64::from(self.slots[index.index()].frames) <= frames;
        let index = match self.admission {
            // Those that were popular before a change are not many, and nobody joins them.
            Admission::WorkingSet if self.popular.is_empty() => self.working_set.next(self.waiting.in_turn(), fits),
            _ => fifo::next(self.first(), fits),
        }?;
        self.take_out(index);
        let slot = &mut self.slots[index.index()];
        slot.state = State::Admitted;
        self.promised.frames += u64::from(slot.frames);
        self.promised.seats += 1;
        // One that was passed waits on.
        self.announced = self.announced.filter(|&announced| announced != index);
        Some(VmId { slot: index, generation: slot.generation })
    }

    /// Whose turn it is.
    #[inline]
    fn first(&self) -> Option<Slot> {
        let (popular, cold) = (self.popular.first(), self.waiting.first());
        if self.admission != Admission::Deadline {
            return popular.or(cold);
        }
        let asked = |index: Slot| (index, self.slots[index.index()].at);
        deadline::first(popular.map(asked), cold.map(asked))
    }

    /// Takes somebody out of the queues of those that wait.
    fn take_out(&mut self, index: Slot) {
        if self.slots[index.index()].state == State::Popular {
            self.popular.remove(&mut self.links, index);
        } else if self.waiting.first() == Some(index) {
            self.waiting.pop(&mut self.links);
        } else {
            self.waiting.remove(&mut self.links, index);
        }
    }

    /// The VM whose turn it is and for which there is no room, if the core has not been told of it yet: where others came before it, the core
    /// would make room for them.
    #[inline]
    pub fn announce(&mut self) -> Option<VmId> {
        let index = self.first().filter(|&index| self.announced != Some(index))?;
        self.announced = Some(index);
        Some(VmId { slot: index, generation: self.slots[index.index()].generation })
    }

    /// Takes a slot out of whatever it is in.
    fn forget(&mut self, index: Slot) {
        let Some(slot) = self.slots.get_mut(index.index()) else { return };
        match core::mem::replace(&mut slot.state, State::Elsewhere) {
            State::Elsewhere => {}
            state @ (State::Waiting | State::Popular) => {
                if state == State::Popular {
                    self.popular.remove(&mut self.links, index);
                } else {
                    self.waiting.remove(&mut self.links, index);
                }
                // Whoever is in its slot next is another one.
                self.announced = self.announced.filter(|&announced| announced != index);
            }
            State::Unheld => self.unheld.remove(&mut self.links, index),
            State::Parked => self.parked.remove(&mut self.links, index),
            State::Admitted => {
                self.promised.frames -= u64::from(slot.frames);
                self.promised.seats -= 1;
            }
        }
    }
}

#[cfg(test)]
#[path = "gatekeeper_tests.rs"]
mod tests;
