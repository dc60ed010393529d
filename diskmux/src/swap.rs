//! Swap regions: what the component that keeps VMs that are out asks for. Its runs of blocks lie in memory that both share, sealed; a block is copied once, between there
//! and the DMA memory.
//!
//! A request is a run of blocks of one region, and ends when all of them have. What of it lies in one piece on one disk is one request to that. What was asked for in a session that has ended goes on until the disks are done with
//! it, and nothing of a new session begins before that: so a late write never comes behind a new one.

use crate::disks::{Disks, Host};
use crate::drivers::{Controller, MAX_RUN, Op};
use crate::sets::Sets;
use abi::swap_disk::{RUN_BLOCKS, RUNS, SwapDiskReply, SwapDiskRequest, status};
use disk_format::{BLOCK_BYTES, Entry, Kind};
use ring::SharedMemory;

/// Blocks that are under way at the same time: two whole runs.
const DEPTH: usize = 2 * RUN_BLOCKS;
/// DMA memory that it needs.
pub const BYTES: usize = DEPTH * BLOCK_BYTES;
/// How often a disk is asked before what it was asked has failed.
const TRIES: u8 = 3;
/// How long a disk may take, in seconds. It is not asked again then.
const PATIENCE: u64 = 10;

/// What was asked for with a run.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The id of the request.
    id: u32,
    op: Op,
    /// Its first block, of the set's.
    at: u64,
    blocks: u16,
    /// Blocks from the first on that were given to disks; all others wait.
    begun: u16,
    /// Pieces that are under way.
    away: u16,
    failed: bool,
}

/// Blocks side by side on one disk that are under way, as one request.
#[derive(Clone, Debug)]
struct Flight {
    /// Their run; `None` when that is of a session that has ended.
    run: Option<usize>,
    /// Which of its blocks is the first.
    index: u16,
    /// Where they lie in the DMA memory.
    buffers: heapless::Vec<usize, MAX_RUN>,
    op: Op,
    disk: usize,
    block: u64,
    tag: u16,
    since: u64,
    tries: u8,
    /// Whether the disk has it.
    started: bool,
}

/// All that is under way for swap.
pub struct SwapRegions {
    runs: [Option<Run>; RUNS],
    flights: [Option<Flight>; DEPTH],
    /// Bit `i`: buffer `i` is one of theirs.
    taken: u32,
    /// What the runs lie in; `None` where there is no such ring.
    data: Option<SharedMemory>,
    buffers: usize,
    /// There was nothing to do when it was last looked, and nothing was asked for since.
    rests: bool,
    /// The session that waits for what was asked for before it.
    opening: Option<u32>,
    /// Runs that have ended: which, its id, and how.
    ended: heapless::Deque<(usize, u32, u16), RUNS>,
}

impl SwapRegions {
    /// Its memory lies from `buffers` on in the DMA memory, [`BYTES`] of it. `data`: what lies behind the ring's slots.
    pub fn new(buffers: usize, data: Option<SharedMemory>) -> Self {
        SwapRegions {
            runs: [None; RUNS],
            flights: [const { None }; DEPTH],
            taken: 0,
            data: data.filter(|data| data.len() >= RUNS * RUN_BLOCKS * BLOCK_BYTES),
            buffers,
            rests: false,
            opening: None,
            ended: heapless::Deque::new(),
        }
    }

    /// Whether it waits for disks.
    pub fn is_busy(&self) -> bool {
        !self.rests && self.has_any()
    }

    fn has_any(&self) -> bool {
        self.flights.iter().any(Option::is_some) || self.runs.iter().any(Option::is_some)
    }

    /// Takes a request.
    pub fn hear(&mut self, id: u32, request: SwapDiskRequest, sets: &Sets) {
        self.rests = false;
        let (op, region, first, blocks, run) = match request {
            SwapDiskRequest::Hello { session } => return self.begin(session),
            SwapDiskRequest::Read { region, first, blocks, run } => (Op::Read, region, first, blocks, run),
            SwapDiskRequest::Write { region, first, blocks, run } => (Op::Write, region, first, blocks, run),
        };
        let place = usize::from(run);
        // Of who asks with a run that is under way nobody knows which of both requests the other end means.
        let Some(free) = self.runs.get_mut(place).filter(|run| run.is_none()) else { return };
        let long_enough = (1..=RUN_BLOCKS).contains(&usize::from(blocks)) && self.data.is_some();
        let at = regions(sets).and_then(|entry| {
            let (start, length) = entry.swap_region(region.into())?;
            let end = u64::from(first) + u64::from(blocks);
            (end <= length && (op == Op::Read || sets.is_writable())).then_some(start + u64::from(first))
        });
        match at.filter(|_| long_enough) {
            Some(at) => *free = Some(Run { id, op, at, blocks, begun: 0, away: 0, failed: false }),
            // There is a place for each run, and one that has ended is free.
            None => _ = self.ended.push_back((place, id, status::NONSENSE)),
        }
    }

    /// A session begins: what was asked for before is not asked for any more.
    fn begin(&mut self, session: u32) {
        self.runs = [None; RUNS];
        self.ended.clear();
        self.opening = Some(session);
        for place in 0..DEPTH {
            let Some(flight) = &mut self.flights[place] else { continue };
            flight.run = None;
            if !flight.started {
                self.take_out(place);
            }
        }
    }

    /// A flight has ended: its buffers are free, but for those that a disk may still use.
    fn take_out(&mut self, place: usize) -> Option<Flight> {
        let flight = self.flights[place].take()?;
        for &buffer in &flight.buffers {
            self.taken &= !(1 << ((buffer - self.buffers) / BLOCK_BYTES));
        }
        Some(flight)
    }

    /// What the regions are, for a session, or for none.
    pub fn regions(session: u32, sets: &Sets) -> SwapDiskReply {
        let found = regions(sets).and_then(|entry| {
            let Kind::Swap { region } = entry.kind else { return None };
            let count = entry.blocks.checked_div(region)?;
            // More than there are slots nobody needs.
            Some((u32::try_from(count).unwrap_or(u32::MAX), u32::try_from(region).unwrap_or(u32::MAX)))
        });
        let (regions, region_blocks) = found.unwrap_or((0, 0));
        SwapDiskReply::Regions { session, regions, region_blocks, writable: sets.is_writable() }
    }

    /// Whether there is perhaps something to say.
    pub fn has_to_say(&self) -> bool {
        self.opening.is_some() || !self.ended.is_empty()
    }

    /// Something to say, with the id that it is for.
    pub fn say(&mut self, sets: &Sets) -> Option<(u32, SwapDiskReply)> {
        if !self.has_to_say() {
            return None;
        }
        let waits = self.flights.iter().flatten().any(|flight| flight.run.is_none());
        if let Some(session) = self.opening.filter(|_| !waits) {
            self.opening = None;
            return Some((0, Self::regions(session, sets)));
        }
        let (run, id, status) = self.ended.pop_front()?;
        // There are few.
        Some((id, SwapDiskReply::Ended { run: u16::try_from(run).unwrap_or(u16::MAX), status }))
    }

    /// A request to a disk has ended. False when it is not one of these.
    pub fn ended<C: Controller, H: Host>(&mut self, tag: u16, good: bool, disks: &mut Disks<C, H>) -> bool {
        if self.rests {
            return false;
        }
        let its = |flight: &Option<Flight>| flight.as_ref().is_some_and(|flight| flight.started && flight.tag == tag);
        let Some(place) = self.flights.iter().position(its) else { return false };
        let Some(flight) = &mut self.flights[place] else { return true };
        disks.ended(flight.disk, flight.since, good);
        if !good {
            flight.tries += 1;
            if flight.tries < TRIES && flight.run.is_some() {
                flight.started = false;
                return true;
            }
        }
        self.landed(place, good, disks);
        true
    }

    /// Blocks are not under way any more.
    fn landed<C: Controller, H: Host>(&mut self, place: usize, good: bool, disks: &Disks<C, H>) {
        let Some(flight) = self.take_out(place) else { return };
        let Some(number) = flight.run else { return };
        let Some(run) = &mut self.runs[number] else { return };
        run.away = run.away.saturating_sub(1);
        let copied = match (&self.data, flight.op) {
            (Some(data), Op::Read) if good => {
                let first = number * RUN_BLOCKS + usize::from(flight.index);
                let mut blocks = flight.buffers.iter().zip(first..);
                blocks.all(|(&from, to)| disks.memory().copy_to(from, data, to * BLOCK_BYTES, BLOCK_BYTES).is_some())
            }
            _ => good,
        };
        run.failed |= !copied;
        if run.away == 0 && (run.begun == run.blocks || run.failed) {
            let status = if run.failed { status::FAILED } else { status::DONE };
            let id = run.id;
            self.runs[number] = None;
            // As many as there are runs.
            let _ = self.ended.push_back((number, id, status));
        }
    }

    /// Gives disks what waits.
    pub fn step<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) {
        if self.rests {
            return;
        }
        self.rests = !self.has_any();
        let now = disks.host().now();
        let patience = PATIENCE.saturating_mul(disks.host().hz());
        for place in 0..DEPTH {
            let Some(flight) = &self.flights[place] else { continue };
            if flight.started && now.saturating_sub(flight.since) > patience {
                // The disk may still do it: its buffers are not used again.
                disks.expire(flight.disk, &flight.buffers);
                self.landed(place, false, disks);
            } else if !flight.started {
                self.start(place, now, disks);
            }
        }
        for number in 0..RUNS {
            while self.begin_piece(number, now, sets, disks) {}
            // Nobody passes one that waits for buffers.
            if self.opening.is_none() && self.runs[number].is_some_and(|run| run.begun < run.blocks && !run.failed) {
                break;
            }
        }
    }

    /// Buffers that can be used, and how many there would be if nothing was under way.
    fn free<C: Controller, H: Host>(&self, disks: &Disks<C, H>) -> (heapless::Vec<usize, DEPTH>, usize) {
        let all = (0..DEPTH).map(|place| (place, self.buffers + place * BLOCK_BYTES));
        let good = all.filter(|(_, buffer)| !disks.is_lost(*buffer));
        let free = good.clone().filter(|(place, _)| self.taken >> place & 1 == 0).map(|(_, buffer)| buffer);
        (free.collect(), good.count())
    }

    /// Takes the next blocks of a run that lie in one piece on one disk, when there are buffers for all of them. Whether there may be another piece.
    fn begin_piece<C: Controller, H: Host>(
        &mut self,
        number: usize,
        now: u64,
        sets: &Sets,
        disks: &mut Disks<C, H>,
    ) -> bool {
        // What waits for an older session waits for all of it.
        let Some(run) = self.runs[number].filter(|run| self.opening.is_none() && run.begun < run.blocks && !run.failed)
        else {
            return false;
        };
        let (at, left) = (run.at + u64::from(run.begun), u64::from(run.blocks - run.begun));
        let found = sets.stripes().and_then(|stripes| stripes.pieces(at, left).next());
        let found = found.and_then(|piece| Some((sets.disk_of(piece.member)?, piece)));
        let (free, all) = self.free(disks);
        let (Some((disk, piece)), 1..) = (found, all) else {
            self.fail(number);
            return true;
        };
        let most = disks.run(disk).min(MAX_RUN).min(all);
        let blocks = usize::try_from(piece.blocks).unwrap_or(most).min(most);
        let place = self.flights.iter().position(Option::is_none);
        let Some((place, mine)) = place.zip(free.get(..blocks).filter(|mine| !mine.is_empty())) else {
            // A disk of no controller takes no blocks.
            if blocks == 0 {
                self.fail(number);
            }
            return blocks == 0;
        };
        let copied = match (&self.data, run.op) {
            (Some(data), Op::Write) => {
                let mut blocks = mine.iter().zip(number * RUN_BLOCKS + usize::from(run.begun)..);
                blocks.all(|(&to, from)| data.copy_to(from * BLOCK_BYTES, &disks.memory(), to, BLOCK_BYTES).is_some())
            }
            _ => true,
        };
        if !copied {
            self.fail(number);
            return true;
        }
        let (block, op, index) = (piece.block, run.op, run.begun);
        let buffers: heapless::Vec<usize, MAX_RUN> = mine.iter().copied().collect();
        for &buffer in &buffers {
            self.taken |= 1 << ((buffer - self.buffers) / BLOCK_BYTES);
        }
        let run = Some(number);
        let flight = Flight { run, index, buffers, op, disk, block, tag: 0, since: now, tries: 0, started: false };
        self.flights[place] = Some(flight);
        if let Some(run) = &mut self.runs[number] {
            // No more than a run has.
            run.begun += u16::try_from(blocks).unwrap_or(0);
            run.away += 1;
        }
        self.start(place, now, disks);
        true
    }

    /// A run fails of which nothing, or not all, can be begun.
    fn fail(&mut self, number: usize) {
        let Some(run) = &mut self.runs[number] else { return };
        run.failed = true;
        if run.away == 0 {
            let id = run.id;
            self.runs[number] = None;
            let _ = self.ended.push_back((number, id, status::FAILED));
        }
    }

    /// Gives a piece to its disk, if that has room now.
    fn start<C: Controller, H: Host>(&mut self, place: usize, now: u64, disks: &mut Disks<C, H>) {
        let Some(flight) = &mut self.flights[place] else { return };
        let tag = disks.next_tag();
        match disks.start(tag, flight.disk, flight.op, flight.block, &flight.buffers) {
            Ok(started) => (flight.tag, flight.since, flight.started) = (tag, now, started),
            Err(_) => self.landed(place, false, disks),
        }
    }
}

/// The swap regions of the set in use.
fn regions(sets: &Sets) -> Option<Entry> {
    (0..).map_while(|index| sets.entry(index)).find(|entry| matches!(entry.kind, Kind::Swap { .. }))
}

const _: () = assert!(RUNS <= 32 && RUN_BLOCKS <= MAX_RUN && DEPTH <= 32);

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
