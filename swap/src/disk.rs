//! Bundles on the disks: moved there when the pool is crowded, and read from there when their VMs come in.
//!
//! What is moved stays in the pool until the core says that its record names the swap region; what is read stays on the disks until the core has the VM. Each
//! block is sealed ([`crate::seal`]) and opened in memory that nobody else sees.

use crate::ages::{Ages, Held};
use crate::bundle::{Damage, Entering, Work};
use crate::link::{Link, Order};
use crate::pool::{Cursor, Pool};
use crate::read::{Buffers, Read, label};
use crate::seal::{BODY, Label, Sealer};
use abi::swap::{Bundle, SwapCommand, WINDOWS};
use abi::swap_disk::{RUN_BLOCKS, RUNS, status};
use abi::vm::{Slot, VmId};

/// Bundles that are moved at the same time. Their runs come behind those of the windows.
const MOVES: usize = RUNS - WINDOWS;
/// How long a VM that comes in waits for the disks, in seconds, whatever the reason.
const PATIENCE: u64 = 45;
/// How often what could not be read is asked for.
const TRIES: u8 = 4;
/// So many moves in a row have to fail until none is tried for a second.
const FAILURES: u32 = 2;
/// After how many parts of a second it is asked for again.
const AGAIN: u64 = 4;
/// Blocks that are sealed or opened in a step, some 130,000 instructions each, before who waits for something else comes to its turn: those of a run, and one less than those
/// of another one at most.
const STEP_BLOCKS: usize = RUN_BLOCKS;

/// How a bundle that is moved stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is written.
    Writes,
    /// The core has to be told.
    Written,
    /// The core knows, and has not answered.
    Told,
    /// Its VM came in meanwhile, or it could not be written: its request has still to end.
    Void,
}

/// A bundle that is moved.
#[derive(Clone, Copy, Debug)]
struct Move {
    vm: VmId,
    held: Held,
    label: Label,
    cursor: Cursor,
    /// Blocks that lie in the run or on the disks.
    blocks: u32,
    /// The request that is under way: its id, first block, and blocks.
    asked: Option<(u32, u32, u16)>,
    stage: Stage,
}

/// What is read and moved.
pub struct Disk {
    link: Link,
    sealer: Sealer,
    ages: Ages,
    reads: [Option<Read>; WINDOWS],
    moves: [Option<Move>; MOVES],
    buffers: &'static mut Buffers,
    /// The pool is only the way to the disks: whatever lies there is moved.
    passes: bool,
    /// When the next one may be moved.
    rests_until: u64,
    /// Moves in a row that the disks did not take.
    failures: u32,
    hz: u64,
}

impl Disk {
    /// Nothing is read or moved yet. `passes`: the pool is only the way to the disks.
    pub fn new(link: Link, key: &[u8; 32], ages: Ages, buffers: &'static mut Buffers, hz: u64, passes: bool) -> Self {
        let (reads, moves) = ([const { None }; WINDOWS], [None; MOVES]);
        Disk { link, sealer: Sealer::new(key), ages, reads, moves, buffers, passes, rests_until: 0, failures: 0, hz }
    }

    /// Everything that was known is void.
    pub fn clear(&mut self) {
        self.ages.clear();
        self.reads = [const { None }; WINDOWS];
        self.moves = [None; MOVES];
    }

    /// Whether a bundle that lies in the pool may stay out: where that is only the way to the disks, these have to take it.
    pub fn takes(&self, vm: VmId, bundle: &Bundle) -> bool {
        let label = label(vm, bundle.counter, bundle.pages, bundle.bytes);
        !self.passes || self.link.takes_writes() && self.has_room(vm.slot, &label)
    }

    /// Whether the pool is only the way to the disks.
    pub fn passes(&self) -> bool {
        self.passes
    }

    /// Whether the disks have a region for a VM, in which it finds room.
    fn has_room(&self, slot: Slot, label: &Label) -> bool {
        self.link.has(slot.number()) && label.blocks() <= self.link.region_blocks()
    }

    /// A bundle lies in the pool.
    pub fn note(&mut self, vm: VmId, bundle: &Bundle) {
        self.ages.insert(vm.slot, bundle);
    }

    /// The core's record has this bundle no more.
    pub fn forget(&mut self, vm: VmId, bundle: &Bundle) {
        if !bundle.is_on_disk() {
            self.ages.remove(vm.slot);
        }
        let its = |one: &Move| one.vm == vm && one.label.counter == bundle.counter;
        for place in &mut self.moves {
            if let Some(one) = place.as_mut().filter(|one| its(one)) {
                one.stage = Stage::Void;
                if one.asked.is_none() {
                    *place = None;
                }
            }
        }
    }

    /// Begins to read a VM's bundle for this window.
    pub fn read(&mut self, vm: VmId, bundle: Bundle, window: usize, now: u64) {
        if let Some(place) = self.reads.get_mut(window) {
            *place = Some(Read::new(vm, bundle, now));
        }
    }

    /// What is waited for without a message: when to look again.
    pub fn due(&self) -> u64 {
        let waits = self.reads.iter().flatten().map(|read| {
            let end = read.since.saturating_add(PATIENCE.saturating_mul(self.hz));
            if read.asked.is_none() && self.link.is_up() { read.at.min(end) } else { end }
        });
        let rests = if self.rests_until > 0 { self.rests_until } else { u64::MAX };
        waits.min().unwrap_or(u64::MAX).min(rests)
    }

    /// Does what can be done now. `tell` tells the core, and is false when it has no room for that. True: there is more that could be done at once, or the
    /// ring is to be looked at again.
    pub fn step<E: Entering>(
        &mut self,
        pool: &mut Pool,
        work: &mut Work,
        now: u64,
        windows: &impl Fn(u32) -> Option<E>,
        mut tell: impl FnMut(SwapCommand) -> bool,
    ) -> bool {
        let mut again = false;
        if self.link.hear() {
            again = true;
        }
        if self.link.take_new_session() {
            self.ask_again();
        }
        let mut worked = 0;
        while worked < STEP_BLOCKS
            && let Some((run, id, how)) = self.link.ended()
        {
            match run.checked_sub(WINDOWS) {
                None => worked += self.has_read(run, id, how, (work, now), windows, &mut tell),
                Some(place) => self.has_written(place, id, how, now),
            }
        }
        for window in 0..WINDOWS {
            self.go_on_reading(window, now, &mut tell);
        }
        if self.rests_until <= now {
            self.rests_until = 0;
        }
        for place in 0..MOVES {
            // One that has begun goes on at the next step.
            if worked < STEP_BLOCKS {
                self.begin_move(place, pool);
                worked += self.go_on_moving(place, pool, &mut tell);
            }
        }
        self.link.publish();
        again || worked >= STEP_BLOCKS
    }

    /// The bell to ring for what was asked for.
    pub fn bell(&mut self) -> u64 {
        self.link.bell()
    }

    /// The notification bit of its messages.
    pub fn doorbell(&self) -> u64 {
        self.link.doorbell()
    }

    /// Nothing that was asked for before is under way any more.
    fn ask_again(&mut self) {
        for read in self.reads.iter_mut().flatten() {
            read.asked = None;
        }
        for place in &mut self.moves {
            match place {
                Some(one) if one.stage == Stage::Void => *place = None,
                Some(one) if one.stage == Stage::Writes => {
                    if let Some((_, first, blocks)) = one.asked {
                        // The run holds them still: they are given again as they are.
                        one.asked = Some((0, first, blocks));
                    }
                }
                _ => {}
            }
        }
    }

    /// Asks for the next blocks of what is read.
    fn go_on_reading(&mut self, window: usize, now: u64, tell: &mut impl FnMut(SwapCommand) -> bool) {
        let Some(read) = &mut self.reads[window] else { return };
        let late = now.saturating_sub(read.since) > PATIENCE.saturating_mul(self.hz);
        let region = read.bundle.place;
        if late || self.link.is_absent() || self.link.is_up() && !self.link.has(region) || read.tries >= TRIES {
            let command = SwapCommand::Unread { vm: read.vm, counter: read.bundle.counter };
            if tell(command) {
                self.reads[window] = None;
            }
            return;
        }
        if read.asked.is_some() || read.at > now {
            return;
        }
        let blocks = read.left.div_ceil(BODY).min(RUN_BLOCKS);
        // As many as a run has.
        let blocks = u16::try_from(blocks).unwrap_or(1);
        let order = Order { write: false, run: window, region, first: read.blocks, blocks };
        read.asked = self.link.ask(&order).map(|id| (id, blocks));
    }

    /// A run of what is read has ended. How many blocks were opened.
    fn has_read<E: Entering>(
        &mut self,
        window: usize,
        id: u32,
        how: u16,
        (work, now): (&mut Work, u64),
        windows: &impl Fn(u32) -> Option<E>,
        tell: &mut impl FnMut(SwapCommand) -> bool,
    ) -> usize {
        let Some(read) = &mut self.reads[window] else { return 0 };
        let Some((_, blocks)) = read.asked.filter(|(asked, _)| *asked == id) else { return 0 };
        read.asked = None;
        if how != status::DONE {
            read.tries += 1;
            read.at = now.saturating_add(self.hz / AGAIN);
            return 0;
        }
        let blocks = usize::from(blocks);
        let shown = u32::try_from(window).ok().and_then(windows);
        let Some(mut shown) = shown else { return 0 };
        let mut result = Ok(());
        for block in 0..blocks {
            result = result.and_then(|()| {
                let Buffers { block: sealed, carries } = &mut *self.buffers;
                self.link.load(window, block, sealed).ok_or(Damage::Seal)?;
                read.take_block(&self.sealer, sealed, &mut carries[window], work, &mut shown)
            });
        }
        let (vm, counter) = (read.vm, read.bundle.counter);
        let command = match result {
            Ok(()) if read.left > 0 => return blocks,
            Ok(()) if read.is_whole() => SwapCommand::Loaded { vm, counter },
            other => {
                log::error!("what was held of {vm} on the disks is lost: {}", other.err().unwrap_or(Damage::Checksum));
                SwapCommand::Damaged { vm, counter }
            }
        };
        // There is room: the core has one order for each window.
        let _ = tell(command);
        self.reads[window] = None;
        blocks
    }

    /// Begins to move what has lain in the pool for longest, while that is crowded.
    fn begin_move(&mut self, place: usize, pool: &Pool) {
        if self.moves[place].is_some() || self.rests_until > 0 || !self.link.takes_writes() {
            return;
        }
        while self.passes || pool.is_crowded() {
            let Some((slot, held)) = self.ages.pop() else { return };
            // Its region is still being written with what came before.
            if self.moves.iter().flatten().any(|one| one.vm.slot == slot) {
                self.keep(slot, held);
                return;
            }
            let Some((head, cursor)) = pool.begin(held.place, held.bytes) else { continue };
            let vm = VmId::from_raw(head.vm);
            let label = label(vm, head.counter, head.pages, held.bytes);
            // What is too large stays in the pool, as does whoever has no region.
            if vm.slot != slot || !self.has_room(slot, &label) {
                continue;
            }
            let stage = Stage::Writes;
            self.moves[place] = Some(Move { vm, held, label, cursor, blocks: 0, asked: None, stage });
            return;
        }
    }

    /// A bundle that was to be moved stays for now.
    fn keep(&mut self, slot: Slot, held: Held) {
        self.ages.insert(slot, &Bundle { place: held.place, bytes: held.bytes, ..Bundle::NONE });
    }

    /// Writes the next blocks of what is moved, or tells the core. How many blocks were sealed.
    fn go_on_moving(&mut self, place: usize, pool: &Pool, tell: &mut impl FnMut(SwapCommand) -> bool) -> usize {
        let Some(one) = &mut self.moves[place] else { return 0 };
        let run = WINDOWS + place;
        let (region, label) = (one.vm.slot.number(), one.label);
        match (one.stage, one.asked) {
            (Stage::Written, _) if tell(SwapCommand::Moved { vm: one.vm, counter: label.counter }) => {
                one.stage = Stage::Told;
            }
            // The link was cut: the same again.
            (Stage::Writes, Some((0, first, blocks))) => {
                let order = Order { write: true, run, region, first, blocks };
                one.asked = Some((self.link.ask(&order).unwrap_or(0), first, blocks));
            }
            (Stage::Writes, None) => {
                let first = one.blocks;
                let count = (label.blocks() - first).min(u32::try_from(RUN_BLOCKS).unwrap_or(1));
                for index in 0..count {
                    let block = &mut self.buffers.block;
                    block.fill(0);
                    let filled = pool.fill(&mut one.cursor, &mut block[..BODY]);
                    self.sealer.seal(&label, first + index, block);
                    // A spoilt one stays where it is, and is found out when its VM comes in.
                    if filled.is_err() || self.link.store(run, index as usize, block).is_none() {
                        self.moves[place] = None;
                        return index as usize;
                    }
                }
                one.blocks = first + count;
                // As many as a run has.
                let blocks = u16::try_from(count).unwrap_or(1);
                let order = Order { write: true, run, region, first, blocks };
                one.asked = Some((self.link.ask(&order).unwrap_or(0), first, blocks));
                return usize::from(blocks);
            }
            _ => {}
        }
        0
    }

    /// A run of what is moved has ended.
    fn has_written(&mut self, place: usize, id: u32, how: u16, now: u64) {
        let Some(one) = self.moves.get_mut(place).and_then(Option::as_mut) else { return };
        if one.asked.is_none_or(|(asked, ..)| asked != id) {
            return;
        }
        one.asked = None;
        self.failures = if how == status::DONE { 0 } else { self.failures.saturating_add(1) };
        match (one.stage, how) {
            (Stage::Writes, status::DONE) if one.blocks == one.label.blocks() => one.stage = Stage::Written,
            (Stage::Writes, status::DONE) => {}
            (Stage::Writes, _) => {
                log::warn!("{} stays in the pool: the disks did not take it", one.vm);
                let (slot, held) = (one.vm.slot, one.held);
                self.moves[place] = None;
                self.keep(slot, held);
                // Where one disk of several is bad, the others go on.
                if self.failures >= FAILURES {
                    self.rests_until = now.saturating_add(self.hz);
                }
            }
            _ => self.moves[place] = None,
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
