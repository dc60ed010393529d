//! The requests that the store has: by place, in the order in which they came, and by where they are. A step touches none that has nothing to do in it.

use super::JOBS;
use super::job::{Job, Stage};
use disk_format::{Entry, Sum};

/// A set of places.
type Places = u32;
/// Bits that a place takes in the order.
const PLACE_BITS: u32 = 4;
/// All places.
const ALL: Places = (1 << JOBS) - 1;

/// All of them.
pub(super) struct Jobs {
    jobs: [Option<Job>; JOBS],
    /// Their places, four bits each, the first one lowest; and how many they are.
    order: usize,
    count: u32,
    taken: Places,
    waiting: Places,
    ready: Places,
    batched: Places,
    ended: Places,
    /// Those that change something, and flushes.
    barred: Places,
}

impl Jobs {
    pub const fn new() -> Self {
        let jobs = [const { None }; JOBS];
        Jobs { jobs, order: 0, count: 0, taken: 0, waiting: 0, ready: 0, batched: 0, ended: 0, barred: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get(&self, place: usize) -> Option<&Job> {
        self.jobs.get(place)?.as_ref()
    }

    /// A place that is free and none of these.
    pub fn free(&self, lost: Places) -> Option<usize> {
        each(!(self.taken | lost) & ALL).next()
    }

    /// Its block of checks is this row, and this byte of it.
    pub fn set_check(&mut self, place: usize, check: (usize, usize)) {
        if let Some(Some(job)) = self.jobs.get_mut(place) {
            job.check = Some(check);
        }
    }

    /// It reads from this virtual disk, which lies beneath its own.
    pub fn sink(&mut self, place: usize, beneath: Entry) {
        if let Some(Some(job)) = self.jobs.get_mut(place) {
            (job.entry, job.check) = (beneath, None);
        }
    }

    /// Its block was seen to hold this.
    pub fn set_seen(&mut self, place: usize, sum: Sum) {
        if let Some(Some(job)) = self.jobs.get_mut(place) {
            job.seen = Some(sum);
        }
    }

    /// Puts one into a place that is free.
    pub fn insert(&mut self, place: usize, job: Job) {
        let (stage, is_barred) = (job.stage, job.ask.changes() || job.ask.block().is_none());
        self.jobs[place] = Some(job);
        self.taken |= 1 << place;
        // As many as there are places.
        self.order |= place << (PLACE_BITS * self.count);
        self.count += 1;
        self.barred |= u32::from(is_barred) << place;
        self.set(place, stage);
    }

    pub fn remove(&mut self, place: usize) {
        self.forget(place);
        self.barred &= !(1 << place);
        self.taken &= !(1 << place);
        self.jobs[place] = None;
        let Some(at) = self.in_order(0).find(|&(_, other)| other == place).map(|(at, _)| at) else { return };
        // Those behind it move up.
        let before = (1 << (PLACE_BITS * at)) - 1;
        self.order = self.order & before | self.order >> PLACE_BITS & !before;
        self.count -= 1;
    }

    /// Where in the order each place stands, from this one of the order on.
    fn in_order(&self, from: u32) -> impl Iterator<Item = (u32, usize)> + use<> {
        let order = self.order;
        (from..self.count).map(move |at| (at, order >> (PLACE_BITS * at) & (JOBS - 1)))
    }

    fn forget(&mut self, place: usize) {
        let others = !(1 << place);
        for places in [&mut self.waiting, &mut self.ready, &mut self.batched, &mut self.ended] {
            *places &= others;
        }
    }

    /// One gets to another stage.
    pub fn set(&mut self, place: usize, stage: Stage) {
        let Some(Some(job)) = self.jobs.get_mut(place) else { return };
        job.stage = stage;
        self.forget(place);
        let places = match stage {
            Stage::Waits => &mut self.waiting,
            Stage::Ready => &mut self.ready,
            Stage::Batched { .. } => &mut self.batched,
            Stage::Ended(_) => &mut self.ended,
            Stage::Looks | Stage::Reads => return,
        };
        *places |= 1 << place;
    }

    /// Whether any changes this block.
    pub fn change(&self, disk: u32, block: u64) -> bool {
        let its = |job: &Job| job.entry.id == disk && job.ask.changes() && job.ask.block() == Some(block);
        self.barred != 0 && self.all().any(its)
    }

    /// Whether any waits.
    pub fn any_waits(&self) -> bool {
        self.waiting != 0
    }

    /// Whether this one does.
    pub fn waits(&self, place: usize) -> bool {
        self.waiting >> place & 1 != 0
    }

    /// Whether any has ended.
    pub fn any_ended(&self) -> bool {
        self.ended != 0
    }

    /// Whether any is ready.
    pub fn any_ready(&self) -> bool {
        self.ready != 0
    }

    /// Those that wait for no other one, in order, from this one of the order on: where in the order the next one is, and its place.
    pub fn next_waiting(&self, from: u32) -> Option<(u32, usize)> {
        self.in_order(from).find(|&(_, place)| self.waits(place) && !self.has_to_wait(place))
    }

    /// Whether one that came before stands in the way.
    fn has_to_wait(&self, place: usize) -> bool {
        let Some(job) = self.get(place) else { return true };
        // Reads do not stand in the way of reads.
        if self.barred == 0 {
            return false;
        }
        let earlier = self.in_order(0).take_while(|&(_, other)| other != place);
        earlier.filter_map(|(_, other)| self.get(other)).any(|other| job.waits_for(other))
    }

    /// Places of those that are ready.
    pub fn ready(&self) -> impl Iterator<Item = usize> + use<> {
        each(self.ready)
    }

    /// Places of those of the batch.
    pub fn batched(&self) -> impl Iterator<Item = usize> + use<> {
        each(self.batched)
    }

    /// Places of those that have ended.
    pub fn ended(&self) -> impl Iterator<Item = usize> + use<> {
        each(self.ended)
    }

    /// Places of all.
    pub fn all(&self) -> impl Iterator<Item = &Job> {
        self.in_order(0).filter_map(|(_, place)| self.get(place))
    }
}

/// The members of a set of places.
fn each(mut places: Places) -> impl Iterator<Item = usize> + use<> {
    core::iter::from_fn(move || {
        let place = places.trailing_zeros() as usize;
        places &= places.wrapping_sub(1);
        (place < JOBS).then_some(place)
    })
}

const _: () = assert!(JOBS == 1 << PLACE_BITS && JOBS * PLACE_BITS as usize <= usize::BITS as usize);
