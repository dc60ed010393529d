//! Reading ahead: blocks behind those that somebody reads one after the other are read before they are asked for, so that all disks work for a single reader,
//! and in requests as large as they take.
//!
//! How many is bounded by how many were read in a row, so nobody makes disks do more than twice what it asks for; and by the memory for them, which readers share. Where it is too
//! little for all of them nothing is read ahead. What is at hand is judged by its check when it is asked for, as anything else; who writes a block makes void what was read of it.

use crate::drivers::MAX_RUN;
use disk_format::{BLOCK_BYTES, Entry};

/// Blocks before the one that is asked for, which readers share.
const WINDOW: usize = 48;
/// Blocks of memory: those, and what a VM has asked for that is still on its way.
pub const AHEAD: usize = WINDOW + 8;
/// A block lies in one of so many places, which are found by its number: as many readers as share the memory find room there for what lies side by side.
const WAYS: usize = 4;
const GROUPS: usize = AHEAD / WAYS;
/// Readers that are known at the same time.
const STREAMS: usize = 8;
/// Reads in a row that make a reader: more than a VM has in a turn, so that many that take turns are none.
const BEGIN: u64 = 6;
/// Fewer blocks than these are not worth it.
const LEAST: u64 = 8;
/// Reads of anybody, after which a block that was not asked for makes room, and a reader that was not heard of is none.
const LONG: u64 = 2 * AHEAD as u64;

/// Somebody who reads one block after the other.
#[derive(Clone, Copy)]
struct Stream {
    /// The virtual disk; all of it once this is a reader.
    disk: u32,
    entry: Option<Entry>,
    /// The block that is expected next.
    next: u64,
    /// Reads in a row so far.
    ran: u64,
    /// Where reading ahead goes on.
    end: u64,
    /// When it was last heard of.
    heard: u64,
}

/// What a block of memory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// It is being read.
    Coming,
    /// So it is, and it was written meanwhile.
    Void,
    Here,
    /// It was given to a disk that never answered.
    Lost,
}

#[derive(Clone, Copy)]
struct Place {
    disk: u32,
    block: u64,
    state: State,
    /// When it was asked for.
    since: u64,
}

/// A block that was asked for ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is on its way.
    Coming,
    /// It lies in the memory of this place.
    Here(usize),
}

/// What was read ahead, and who reads.
pub struct Ahead {
    places: [Place; AHEAD],
    streams: [Stream; STREAMS],
    buffers: usize,
    /// Places that are not free.
    taken: usize,
    /// Bit `i`: for stream `i` more is to be read.
    wanted: u32,
    /// The stream that was heard of last, and the one that is forgotten next, if nobody reads there.
    last: usize,
    hand: usize,
    /// Reads that were heard of.
    clock: u64,
}

impl Ahead {
    /// Nothing yet; its memory lies from `buffers` on.
    pub const fn new(buffers: usize) -> Self {
        let none = Place { disk: 0, block: 0, state: State::Free, since: 0 };
        let nobody = Stream { disk: 0, entry: None, next: 0, ran: 0, end: 0, heard: 0 };
        Ahead {
            places: [none; AHEAD],
            streams: [nobody; STREAMS],
            buffers,
            taken: 0,
            wanted: 0,
            last: 0,
            hand: 0,
            clock: LONG,
        }
    }

    /// Where a place lies.
    pub fn buffer(&self, place: usize) -> usize {
        self.buffers + place * BLOCK_BYTES
    }

    /// Somebody asks for a block of a virtual disk.
    pub fn hear(&mut self, entry: &Entry, block: u64) {
        self.clock += 1;
        let expects = |stream: &Stream| stream.next == block && stream.disk == entry.id && stream.ran > 0;
        let found =
            if expects(&self.streams[self.last]) { Some(self.last) } else { self.streams.iter().position(expects) };
        let Some(number) = found else {
            return self.begin(entry, block);
        };
        self.last = number;
        let stream = &mut self.streams[number];
        (stream.next, stream.ran, stream.heard) = (block + 1, stream.ran + 1, self.clock);
        stream.end = stream.end.max(stream.next);
        // With more than that before it nobody is read ahead for.
        let has_enough = stream.end - stream.next > (WINDOW - MAX_RUN) as u64;
        if stream.ran >= BEGIN && !has_enough && stream.end < entry.blocks {
            stream.entry = Some(*entry);
            self.wanted |= 1 << number;
        }
    }

    /// Somebody reads who is not known: in the place of one who is none, or was not heard of for long, as far as there is one.
    fn begin(&mut self, entry: &Entry, block: u64) {
        for _ in 0..STREAMS {
            self.hand = (self.hand + 1) % STREAMS;
            if !self.reads(&self.streams[self.hand]) {
                break;
            }
        }
        let (next, heard) = (block.saturating_add(1), self.clock);
        self.streams[self.hand] = Stream { disk: entry.id, entry: None, next, ran: 1, end: next, heard };
        self.wanted &= !(1 << self.hand);
        self.last = self.hand;
    }

    /// Whether a stream is a reader.
    fn reads(&self, stream: &Stream) -> bool {
        stream.ran >= BEGIN && self.clock - stream.heard < LONG
    }

    /// Whether there may be something to read for a reader.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted != 0
    }

    /// A reader for whom more is to be read: the virtual disk, and the blocks. [`Ahead::went`] says how many were.
    #[inline]
    pub fn wanted(&mut self) -> Option<(usize, Entry, core::ops::Range<u64>)> {
        while self.wanted != 0 {
            let number = self.wanted.trailing_zeros() as usize;
            self.wanted &= self.wanted - 1;
            let stream = self.streams[number];
            let Some(entry) = stream.entry else { continue };
            if let Some(end) = self.target(&stream, &entry) {
                return Some((number, entry, stream.end..end));
            }
        }
        None
    }

    /// Up to where is to be read for a reader; `None` where that is not worth it now.
    fn target(&self, stream: &Stream, entry: &Entry) -> Option<u64> {
        let readers = self.streams.iter().filter(|other| self.reads(other)).count().max(1);
        let window = (WINDOW / readers) as u64;
        let window = if window < LEAST { return None } else { window.min(2 * stream.ran) };
        // Not a block for each that is asked for, but some at a time.
        let step = (window / 2).min(MAX_RUN as u64);
        if stream.end - stream.next + step > window {
            return None;
        }
        let end = (stream.next + window).min(entry.blocks);
        // Requests end where stripe units may.
        let over = entry.data(end.saturating_sub(1)).map_or(0, |at| (at + 1) % MAX_RUN as u64);
        let even = if end < entry.blocks { end.saturating_sub(over) } else { end };
        let end = if even > stream.end { even } else { end };
        (end > stream.end).then_some(end)
    }

    /// For a reader it was read ahead up to there.
    pub fn went(&mut self, number: usize, end: u64) {
        self.streams[number].end = end;
    }

    /// What was read ahead of a block, if it was.
    pub fn find(&self, disk: u32, block: u64) -> Option<Found> {
        if self.taken == 0 {
            return None;
        }
        let number = self.position(disk, block)?;
        Some(if self.places[number].state == State::Here { Found::Here(number) } else { Found::Coming })
    }

    fn position(&self, disk: u32, block: u64) -> Option<usize> {
        let its = |place: &Place| {
            place.block == block && place.disk == disk && matches!(place.state, State::Coming | State::Here)
        };
        let group = group(block);
        self.places[group..group + WAYS].iter().position(its).map(|way| group + way)
    }

    /// A place for a block that is to be read; `None` when there is none now.
    pub fn take(&mut self, disk: u32, block: u64) -> Option<usize> {
        let is_free = |place: &Place| place.state == State::Free;
        let is_old = |place: &Place| place.state == State::Here && self.clock - place.since > LONG;
        let group = group(block);
        let ways = &self.places[group..group + WAYS];
        let number = if let Some(way) = ways.iter().position(is_free) {
            self.taken += 1;
            group + way
        } else {
            group + ways.iter().position(is_old)?
        };
        self.places[number] = Place { disk, block, state: State::Coming, since: self.clock };
        Some(number)
    }

    /// The block of a place was read, or could not be.
    pub fn came(&mut self, number: usize, good: bool) {
        match self.places[number].state {
            State::Coming if good => self.places[number].state = State::Here,
            State::Coming | State::Void => self.release(number),
            State::Free | State::Here | State::Lost => {}
        }
    }

    /// What lies in a place was asked for, and is not needed any more.
    pub fn release(&mut self, number: usize) {
        self.places[number].state = State::Free;
        self.taken -= 1;
    }

    /// A disk that never answered may write to a place at any time.
    pub fn lose(&mut self, number: usize) {
        self.places[number].state = State::Lost;
    }

    /// A virtual disk is no more.
    pub fn forget_disk(&mut self, disk: u32) {
        for stream in self.streams.iter_mut().filter(|stream| stream.disk == disk) {
            // It goes on with nothing, and is not asked for again: no other one gets this id.
            (stream.entry, stream.ran) = (None, 0);
        }
    }

    /// A block is to be written.
    pub fn forget(&mut self, disk: u32, block: u64) {
        if self.taken == 0 {
            return;
        }
        let Some(number) = self.position(disk, block) else { return };
        match self.places[number].state {
            State::Coming => self.places[number].state = State::Void,
            _ => self.release(number),
        }
    }
}

/// The first of the places where a block may lie.
fn group(block: u64) -> usize {
    // A small number.
    WAYS * usize::try_from(block % GROUPS as u64).unwrap_or(0)
}

const _: () = assert!(STREAMS <= 32 && AHEAD.is_multiple_of(WAYS));

#[cfg(test)]
mod tests {
    use super::*;
    use disk_format::{EntryName, Kind};
    use std::vec;
    use std::vec::Vec;

    fn entry(id: u32) -> Entry {
        let name = EntryName::new("web").expect("good");
        Entry { kind: Kind::Disk { read_only: false }, id, name, first: 16, blocks: 700, beneath: None }
    }

    /// Blocks that are to be read ahead now, all of which there is room for.
    fn read(ahead: &mut Ahead) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some((number, entry, blocks)) = ahead.wanted() {
            for block in blocks.clone() {
                let Some(place) = ahead.take(entry.id, block) else { break };
                ahead.came(place, true);
                all.push(block);
            }
            ahead.went(number, blocks.end);
        }
        all
    }

    #[test]
    fn who_reads_in_a_row_is_read_ahead_for_and_nobody_else() {
        let mut ahead = Ahead::new(0);
        for block in [5, 9, 3, 600, 7, 1, 250, 2] {
            ahead.hear(&entry(1), block);
        }
        assert_eq!(read(&mut ahead), []);
        let (mut asked, mut hits, mut most) = (0, 0, 0);
        for block in 100..600 {
            ahead.hear(&entry(1), block);
            if let Some(Found::Here(place)) = ahead.find(1, block) {
                ahead.release(place);
                hits += 1;
            }
            let more = read(&mut ahead);
            assert!(more.iter().all(|&ahead| ahead > block));
            // As large as they can be, once it is known that it goes on.
            assert!(block < 160 || more.is_empty() || more.len() == MAX_RUN, "{more:?}");
            asked += more.len();
            most = most.max(asked - hits);
            let read = usize::try_from(block - 99).expect("few");
            assert!(asked <= hits + 2 * read && most <= WINDOW, "no more than twice what was read");
        }
        assert!(hits > 490, "{hits}");
        assert!(most > WINDOW - MAX_RUN);
        // Up to the end, and no further.
        for block in 600..700 {
            ahead.hear(&entry(1), block);
            assert!(block < 602 + BEGIN || ahead.find(1, block).is_some());
            if let Some(Found::Here(place)) = ahead.find(1, block) {
                ahead.release(place);
            }
            assert!(read(&mut ahead).iter().all(|&block| block < 700));
        }
        assert_eq!(ahead.taken, 0);
    }

    #[test]
    fn readers_share_the_memory_and_too_many_have_none() {
        for (readers, all) in [(2_u32, 24), (4, 12), (7, 0), (12, 0)] {
            let mut ahead = Ahead::new(0);
            let mut held = vec![0_usize; 16];
            for block in 0..40 {
                for id in 0..readers {
                    ahead.hear(&entry(id), block);
                    if let Some(Found::Here(place)) = ahead.find(id, block) {
                        ahead.release(place);
                    }
                }
                // Once all are known.
                if block > BEGIN {
                    read(&mut ahead);
                }
                ahead.wanted = 0;
            }
            for id in 0..readers {
                let here = ahead.places.iter().filter(|place| place.state == State::Here && place.disk == id);
                held[id as usize] = here.count();
            }
            let most = held.iter().max().copied().expect("some");
            assert!(most <= all && most >= all / 2, "{readers}: {held:?}");
        }
    }

    #[test]
    fn what_is_written_is_forgotten_and_what_is_left_makes_room() {
        let mut ahead = Ahead::new(4096);
        let (one, two) = (ahead.take(1, 5).expect("room"), ahead.take(1, 6).expect("room"));
        assert_eq!((ahead.find(1, 5), ahead.find(2, 5)), (Some(Found::Coming), None));
        ahead.forget(1, 5);
        assert_eq!(ahead.find(1, 5), None);
        ahead.came(one, true);
        ahead.came(two, true);
        assert_eq!((ahead.find(1, 5), ahead.find(1, 6), ahead.taken), (None, Some(Found::Here(two)), 1));
        ahead.forget(1, 6);
        assert_eq!((ahead.find(1, 6), ahead.taken), (None, 0));
        let places: Vec<usize> = (0..AHEAD as u64).filter_map(|block| ahead.take(1, block)).collect();
        assert_eq!((places.len(), ahead.take(1, 99)), (AHEAD, None));
        ahead.lose(places[0]);
        places[1..].iter().for_each(|&place| ahead.came(place, true));
        ahead.came(places[0], true);
        assert_eq!(ahead.take(1, 99), None, "somebody may ask for them");
        ahead.clock += LONG + 1;
        let again: Vec<usize> = (100..200).filter_map(|block| ahead.take(1, block)).collect();
        assert_eq!(again.len(), AHEAD - 1);
        assert!(!again.contains(&places[0]), "a disk may still write there");
    }
}
