//! Lets VMs in that wait for room, by the scheduler's own gatekeeper: how long do those wait who are popular, who are not, and who are large?
//!
//! Around [`sched::gatekeeper::Gatekeeper`] stands a machine with seats and frames for some of its VMs. Who is asked while it is out waits for
//! admission; whoever idles longest goes out for who is next, at once, but nobody that came in less than [`RESIDENCE`] ago; to come in takes [`LOAD`], eight at a time.
//! Time is in microseconds.

use crate::random::Random;
use crate::trace::{Pattern, Shape, Trace};
use abi::sched::{Admission, Room};
use abi::tenant::Tenant;
use abi::vm::VmId;
use sched::component::Tables;
use sched::gatekeeper::Gatekeeper;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

/// Frames of most VMs, and of the others.
pub const SMALL: u32 = 24;
/// See [`SMALL`].
pub const LARGE: u32 = 16 * SMALL;
/// One VM in so many is large.
pub const LARGE_PART: u32 = 16;
/// How long whoever came in stays at least.
pub const RESIDENCE: u64 = 100_000;
/// How long it takes to come in: a disk's time.
pub const LOAD: u64 = 5_000;
/// VMs that come in at once.
pub const AT_ONCE: usize = 8;
/// How long a VM works for who asked it.
pub const WORK: u64 = 1_000;
/// Ticks of the TSC in a quantum.
const QUANTUM: u64 = 10_000;
/// When nobody can go out, it is looked again after this.
const AGAIN: u64 = 10_000;
/// One VM in so many is popular.
pub const POPULAR_PART: u32 = 10;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// VMs.
    pub vms: u32,
    /// Seats.
    pub seats: u32,
    /// Requests.
    pub requests: u32,
    /// Of these in a second, at times that are drawn (a Poisson process).
    pub rate: u32,
    /// The exponent of Zipf's law.
    pub alpha: f64,
    /// Where it starts.
    pub seed: u64,
}

/// How long requests of a kind have waited until their VM was in, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Requests.
    pub requests: u32,
    /// Those that waited at all.
    pub waited: u32,
    /// Of all of them, the median,
    pub p50: u64,
    /// of a hundred the longest but one,
    pub p99: u64,
    /// and the longest.
    pub most: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admissions {
    /// Requests to popular VMs: one VM in [`POPULAR_PART`], those that are asked most.
    pub popular: Waits,
    /// Requests to all others.
    pub cold: Waits,
    /// Requests to large VMs, whether popular or not.
    pub large: Waits,
    /// VMs that came in, for each request.
    pub comings: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Out,
    Waiting,
    Loading,
    In,
}

struct Vm {
    frames: u32,
    generation: u32,
    place: Place,
    /// When it came in, and until when it works.
    since: u64,
    busy: u64,
    /// When those asked that wait for it.
    asked: Vec<u64>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Loaded(u32),
    Look,
}

struct Machine {
    gatekeeper: Gatekeeper,
    vms: Vec<Vm>,
    free: Room,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// Those that are in, by the end of their work.
    idle: BTreeSet<(u64, u32)>,
    /// Those that are admitted and wait for their turn to come in.
    admitted: VecDeque<u32>,
    loading: usize,
    /// For whom room is made.
    next: Option<u32>,
    looks: bool,
    comings: u32,
    waits: Vec<(u32, u64)>,
}

impl Machine {
    fn new(load: &Load, admission: Admission) -> Self {
        let mut tables = Tables::on_heap(Gatekeeper::TABLES, index(load.vms), index(load.seats));
        let mut gatekeeper = Gatekeeper::new(&mut tables);
        let free = Room { frames: u64::from(load.seats) * u64::from(SMALL), seats: load.seats };
        gatekeeper.set_capacity(free.frames);
        gatekeeper.set_admission(admission, QUANTUM);
        gatekeeper.reset(free);
        let mut random = Random::new(load.seed ^ 1);
        let vm = |_| {
            let frames = if random.below(LARGE_PART) == 0 { LARGE } else { SMALL };
            Vm { frames, generation: 1, place: Place::Out, since: 0, busy: 0, asked: Vec::new() }
        };
        let vms = (0..load.vms).map(vm).collect();
        Machine {
            gatekeeper,
            vms,
            free,
            now: 0,
            events: BinaryHeap::new(),
            idle: BTreeSet::new(),
            admitted: VecDeque::new(),
            loading: 0,
            next: None,
            looks: false,
            comings: 0,
            waits: Vec::new(),
        }
    }

    fn id(&self, vm: u32) -> VmId {
        VmId::new(vm, self.vms[index(vm)].generation)
    }

    /// Whatever happens before `until`.
    fn go_on(&mut self, until: u64) {
        while let Some(&Reverse((at, event))) = self.events.peek().filter(|Reverse((at, _))| *at <= until) {
            self.events.pop();
            self.now = at;
            match event {
                Event::Loaded(vm) => self.loaded(vm),
                Event::Look => self.looks = false,
            }
            self.admit();
        }
        self.now = until;
    }

    fn asked(&mut self, vm: u32) {
        let now = self.now;
        let entry = &mut self.vms[index(vm)];
        match entry.place {
            Place::In => {
                self.waits.push((vm, 0));
                self.work(vm);
            }
            Place::Out => {
                entry.place = Place::Waiting;
                entry.asked.push(now);
                let frames = entry.frames.into();
                self.gatekeeper.set_time(now);
                let _ = self.gatekeeper.arrived(self.id(vm), Tenant::default(), frames, self.free);
                self.admit();
            }
            Place::Waiting | Place::Loading => entry.asked.push(now),
        }
    }

    fn work(&mut self, vm: u32) {
        let entry = &mut self.vms[index(vm)];
        self.idle.remove(&(entry.busy, vm));
        entry.busy = entry.busy.max(self.now) + WORK;
        self.idle.insert((entry.busy, vm));
    }

    fn loaded(&mut self, vm: u32) {
        self.loading -= 1;
        let entry = &mut self.vms[index(vm)];
        (entry.place, entry.since, entry.busy) = (Place::In, self.now, self.now);
        self.idle.insert((self.now, vm));
        for at in std::mem::take(&mut entry.asked) {
            self.waits.push((vm, self.now - at));
            self.work(vm);
        }
    }

    /// Admits who can be, and makes room for who is next.
    fn admit(&mut self) {
        self.gatekeeper.set_time(self.now);
        loop {
            while let Some(id) = self.gatekeeper.admit() {
                let vm = id.slot.number();
                let entry = &mut self.vms[index(vm)];
                entry.place = Place::Loading;
                self.free.frames -= u64::from(entry.frames);
                self.free.seats -= 1;
                self.comings += 1;
                self.next = self.next.filter(|next| *next != vm);
                self.admitted.push_back(vm);
                // It has its frames and its seat from the beginning of its way in.
                self.gatekeeper.ready(id);
            }
            while self.loading < AT_ONCE
                && let Some(vm) = self.admitted.pop_front()
            {
                self.loading += 1;
                self.events.push(Reverse((self.now + LOAD, Event::Loaded(vm))));
            }
            if let Some(id) = self.gatekeeper.announce() {
                self.next = Some(id.slot.number());
            }
            if self.next.is_none() || !self.make_room() {
                return;
            }
        }
    }

    /// Sends somebody out. False when nobody can go now.
    fn make_room(&mut self) -> bool {
        let may_go = |&&(busy, vm): &&(u64, u32)| busy <= self.now && self.vms[index(vm)].since + RESIDENCE <= self.now;
        let Some(&(busy, vm)) = self.idle.iter().take_while(|(busy, _)| *busy <= self.now).find(may_go) else {
            if !std::mem::replace(&mut self.looks, true) {
                self.events.push(Reverse((self.now + AGAIN, Event::Look)));
            }
            return false;
        };
        self.idle.remove(&(busy, vm));
        let id = self.id(vm);
        let entry = &mut self.vms[index(vm)];
        entry.place = Place::Out;
        self.free.frames += u64::from(entry.frames);
        self.free.seats += 1;
        self.gatekeeper.ended(id, self.free);
        true
    }
}

fn index(vm: u32) -> usize {
    usize::try_from(vm).unwrap_or(usize::MAX)
}

/// Plays a load. Everybody that asked comes in in the end.
///
/// # Panics
/// When somebody that asked never comes in.
pub fn play(load: &Load, admission: Admission) -> Admissions {
    let &Load { vms, requests, rate, alpha, seed, .. } = load;
    let trace = Trace::new(&Shape { vms, wakes: requests, pattern: Pattern::Zipf { alpha }, scans: 0, seed });
    let mut machine = Machine::new(load, admission);
    let (mut random, mut at) = (Random::new(seed ^ 2), 0.0);
    for wake in &trace.wakes {
        at -= (1.0 - random.fraction()).ln() * 1e6 / f64::from(rate.max(1));
        // Some hours at most, and never below 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        machine.go_on(at as u64);
        machine.asked(wake.vm);
    }
    machine.go_on(u64::MAX);
    assert!(machine.vms.iter().all(|vm| vm.asked.is_empty()), "somebody waits for ever");
    let mut counts = vec![0_u32; index(vms)];
    trace.wakes.iter().for_each(|wake| counts[index(wake.vm)] += 1);
    let mut ranks: Vec<u32> = (0..vms).collect();
    ranks.sort_by_key(|vm| Reverse(counts[index(*vm)]));
    let mut popular = vec![false; index(vms)];
    ranks.iter().take(index(vms / POPULAR_PART)).for_each(|vm| popular[index(*vm)] = true);
    let of =
        |wanted: &dyn Fn(u32) -> bool| waits(machine.waits.iter().filter(|(vm, _)| wanted(*vm)).map(|(_, wait)| *wait));
    Admissions {
        popular: of(&|vm| popular[index(vm)]),
        cold: of(&|vm| !popular[index(vm)]),
        large: of(&|vm| machine.vms[index(vm)].frames == LARGE),
        comings: machine.comings,
    }
}

fn waits(all: impl Iterator<Item = u64>) -> Waits {
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    let at = |part: usize| all.get(all.len() * part / 100).or(all.last()).copied().unwrap_or(0);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Waits {
        requests: count(all.len()),
        waited: count(all.iter().filter(|wait| **wait != 0).count()),
        p50: at(50),
        p99: at(99),
        most: all.last().copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD_OF_ALL: Load = Load { vms: 500, seats: 60, requests: 6_000, rate: 400, alpha: 1.0, seed: 5 };

    #[test]
    fn everybody_comes_in_and_it_is_the_same_each_time() {
        for admission in Admission::ALL {
            let once = play(&LOAD_OF_ALL, admission);
            assert_eq!(once.popular.requests + once.cold.requests, LOAD_OF_ALL.requests);
            assert!(once.comings >= 60 && once.popular.waited < once.popular.requests, "{once:?}");
            assert_eq!(once, play(&LOAD_OF_ALL, admission));
        }
    }

    #[test]
    fn where_all_fit_each_waits_once_for_its_way_in() {
        let load = Load { seats: 16 * 500, rate: 50, ..LOAD_OF_ALL };
        for admission in Admission::ALL {
            let all = play(&load, admission);
            assert!(all.comings <= load.vms && all.cold.most < 3 * LOAD && all.popular.p50 == 0, "{all:?}");
        }
    }

    #[test]
    fn who_passes_does_so_at_others_cost() {
        let [fifo, set, deadline] = Admission::ALL.map(|admission| play(&LOAD_OF_ALL, admission));
        assert!(
            set.large.p99 > fifo.large.p99 && set.cold.p50 < fifo.cold.p50,
            "small ones pass large ones: {set:?} {fifo:?}"
        );
        assert!(deadline.popular.p50 < fifo.popular.p50, "popular ones pass cold ones: {deadline:?} {fifo:?}");
    }
}
