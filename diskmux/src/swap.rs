//! Swap regions: what the component that keeps VMs that are out asks for. Its runs of blocks lie in memory that both share, sealed; a block is copied once, between there
//! and the DMA memory.
//!
//! A request is a run of blocks of one region, and ends when all of them have. What was asked for in a session that has ended goes on until the disks are done with
//! it, and nothing of a new session begins before that: so a late write never comes behind a new one.

use crate::disks::{Disks, Host};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;
use abi::swap_disk::{RUN_BLOCKS, RUNS, SwapDiskReply, SwapDiskRequest, status};
use disk_format::{BLOCK_BYTES, Entry, Kind};
use ring::SharedMemory;

/// Blocks that are under way at the same time.
const DEPTH: usize = 16;
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
    /// Blocks that are under way.
    away: u16,
    failed: bool,
}

/// A block that is under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Its run; `None` when that is of a session that has ended.
    run: Option<usize>,
    /// Which of its blocks.
    index: u16,
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
    /// What the runs lie in; `None` where there is no such ring.
    data: Option<SharedMemory>,
    buffers: usize,
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
            flights: [None; DEPTH],
            data: data.filter(|data| data.len() >= RUNS * RUN_BLOCKS * BLOCK_BYTES),
            buffers,
            opening: None,
            ended: heapless::Deque::new(),
        }
    }

    /// Whether it waits for disks.
    pub fn is_busy(&self) -> bool {
        self.flights.iter().any(Option::is_some) || self.runs.iter().any(Option::is_some)
    }

    /// Takes a request.
    pub fn hear(&mut self, id: u32, request: SwapDiskRequest, sets: &Sets) {
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
        for flight in &mut self.flights {
            if let Some(Flight { run, started, .. }) = flight {
                *run = None;
                if !*started {
                    *flight = None;
                }
            }
        }
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

    /// Something to say, with the id that it is for.
    pub fn say(&mut self, sets: &Sets) -> Option<(u32, SwapDiskReply)> {
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
        let its = |flight: &Option<Flight>| flight.is_some_and(|flight| flight.started && flight.tag == tag);
        let Some(place) = self.flights.iter().position(its) else { return false };
        let Some(flight) = &mut self.flights[place] else { return true };
        if !good {
            disks.failed(flight.disk);
            flight.tries += 1;
            if flight.tries < TRIES && flight.run.is_some() {
                flight.started = false;
                return true;
            }
        }
        self.landed(place, good, disks);
        true
    }

    /// A block is not under way any more.
    fn landed<C: Controller, H: Host>(&mut self, place: usize, good: bool, disks: &Disks<C, H>) {
        let Some(flight) = self.flights[place].take() else { return };
        let Some(number) = flight.run else { return };
        let Some(run) = &mut self.runs[number] else { return };
        run.away = run.away.saturating_sub(1);
        let copied = match (&self.data, flight.op) {
            (Some(data), Op::Read) if good => {
                let at = (number * RUN_BLOCKS + usize::from(flight.index)) * BLOCK_BYTES;
                disks.memory().copy_to(self.buffers + place * BLOCK_BYTES, data, at, BLOCK_BYTES).is_some()
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
        let now = disks.host().now();
        let patience = PATIENCE.saturating_mul(disks.host().hz());
        for place in 0..DEPTH {
            let Some(flight) = self.flights[place] else { continue };
            if flight.started && now.saturating_sub(flight.since) > patience {
                // The disk may still do it: its buffer is not used again.
                disks.expire(flight.disk, self.buffers + place * BLOCK_BYTES);
                self.landed(place, false, disks);
            } else if !flight.started {
                self.start(place, now, disks);
            }
        }
        for number in 0..RUNS {
            while self.begin_block(number, now, sets, disks) {}
        }
    }

    /// Takes the next block of a run, as far as there is a buffer for it. Whether there may be another one.
    fn begin_block<C: Controller, H: Host>(
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
        let is_free =
            |place: &usize| self.flights[*place].is_none() && !disks.is_lost(self.buffers + place * BLOCK_BYTES);
        let Some(place) = (0..DEPTH).find(is_free) else {
            let gone = (0..DEPTH).all(|place| disks.is_lost(self.buffers + place * BLOCK_BYTES));
            if gone {
                self.fail(number);
            }
            return gone;
        };
        let at = run.at + u64::from(run.begun);
        let found = sets.stripes().and_then(|stripes| stripes.pieces(at, 1).next());
        let found = found.and_then(|piece| Some((sets.disk_of(piece.member)?, piece.block)));
        let copied = match (&self.data, run.op) {
            (Some(data), Op::Write) => {
                let from = (number * RUN_BLOCKS + usize::from(run.begun)) * BLOCK_BYTES;
                data.copy_to(from, &disks.memory(), self.buffers + place * BLOCK_BYTES, BLOCK_BYTES)
            }
            _ => Some(()),
        };
        let Some(((disk, block), ())) = found.zip(copied) else {
            self.fail(number);
            return true;
        };
        let (run_number, index, op) = (Some(number), run.begun, run.op);
        let flight = Flight { run: run_number, index, op, disk, block, tag: 0, since: now, tries: 0, started: false };
        self.flights[place] = Some(flight);
        if let Some(run) = &mut self.runs[number] {
            run.begun += 1;
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

    /// Gives a block to its disk, if that has room now.
    fn start<C: Controller, H: Host>(&mut self, place: usize, now: u64, disks: &mut Disks<C, H>) {
        let buffer = self.buffers + place * BLOCK_BYTES;
        let Some(flight) = &mut self.flights[place] else { return };
        let tag = disks.next_tag();
        match disks.start(tag, flight.disk, flight.op, flight.block, buffer) {
            Ok(started) => (flight.tag, flight.since, flight.started) = (tag, now, started),
            Err(_) => self.landed(place, false, disks),
        }
    }
}

/// The swap regions of the set in use.
fn regions(sets: &Sets) -> Option<Entry> {
    (0..).map_while(|index| sets.entry(index)).find(|entry| matches!(entry.kind, Kind::Swap { .. }))
}

const _: () = assert!(RUNS <= 32 && RUN_BLOCKS <= DEPTH);

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
