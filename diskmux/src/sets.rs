//! What the disks are, which sets they make, and the set in use.

use crate::disks::{Disks, Failed, Host, MAX_DISKS};
use crate::drivers::Controller;
use abi::disk::{DiskReply, disk_state, entry_kind, problem, set_state};
use abi::limits::Name;
use core::cell::RefCell;
use disk_format::{
    BLOCK_BYTES, Block, Change, Entry, Kind, MAX_MEMBERS, Problem, Seen, Set, Stripes, Superblock, checked, entry_at,
    entry_of, look, recognise, zeroed,
};

mod planned;

pub use planned::{Planned, Unplanned};

/// Sets that are known at the same time.
const MAX_SETS: usize = 4;
/// Bytes of a directory at most.
pub const DIRECTORY_BYTES: usize = 16 * BLOCK_BYTES;

/// The set in use.
struct Used {
    /// Its number among the sets.
    set: usize,
    /// Its disks, by member.
    disks: heapless::Vec<usize, MAX_MEMBERS>,
    stripes: Stripes,
    generation: u64,
    /// The highest generation that anything was written of.
    highest: u64,
    entries: usize,
    /// The id that the next entry gets.
    next_id: u32,
    read_only: bool,
}

/// What was seen at the start.
pub struct Sets {
    seen: heapless::Vec<Seen, MAX_DISKS>,
    sets: heapless::Vec<Set, MAX_SETS>,
    used: Option<Used>,
    /// This set could be used, and could not be opened.
    unopened: Option<usize>,
    /// The directory of the set in use, checked.
    directory: &'static mut [u8; DIRECTORY_BYTES],
}

impl Sets {
    /// Nothing yet. `directory` is where the directory of the set in use is kept.
    pub fn new(directory: &'static mut [u8; DIRECTORY_BYTES]) -> Self {
        Sets { seen: heapless::Vec::new(), sets: heapless::Vec::new(), used: None, unopened: None, directory }
    }

    /// Looks at all disks, and opens the first set that can be used.
    pub fn find<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) {
        let mut buffer = zeroed();
        for disk in 0..disks.list().len() {
            let Some(geometry) = disks.list().get(disk).map(|disk| disk.geometry) else { break };
            let seen = look(geometry.blocks, &mut buffer, |block, to| disks.read(disk, block, to).is_ok());
            log::info!("disk {disk}: {} blocks, {seen}", geometry.blocks);
            // As many as there are disks.
            let _ = self.seen.push(seen);
        }
        for set in recognise(&self.seen) {
            for problem in &set.problems {
                log::error!("set {}: {problem}", set.superblock.name);
            }
            if self.sets.push(set).is_err() {
                log::error!("disks of more than {MAX_SETS} sets: those of the others are not used");
            }
        }
        let Some(first) = self.sets.iter().position(Set::is_usable) else { return };
        match self.open(first, disks) {
            Ok(used) => {
                let name = self.sets[first].superblock.name;
                let (members, blocks) = (used.disks.len(), used.stripes.blocks());
                log::info!("set {name}: {members} members, {blocks} blocks, generation {}", used.generation);
                self.used = Some(used);
            }
            Err(why) => {
                log::error!(
                    "set {}: it cannot be opened ({why:?}): see what its disks say",
                    self.sets[first].superblock.name
                );
                self.unopened = Some(first);
            }
        }
        for (_, other) in self.sets.iter().enumerate().filter(|(number, set)| *number != first && set.is_usable()) {
            log::warn!("set {}: it is not used, since {} is", other.superblock.name, self.sets[first].superblock.name);
        }
    }

    /// Opens a set: reads its directory, and takes it to its next generation, so that a copy of one of its disks that was made before is
    /// known for what it is.
    fn open<C: Controller, H: Host>(&mut self, number: usize, disks: &mut Disks<C, H>) -> Result<Used, Failed> {
        let set = self.sets.get(number).ok_or(Failed::Nonsense)?;
        let superblock = set.superblock;
        let stripes = superblock.stripes().ok_or(Failed::Nonsense)?;
        let places: heapless::Vec<usize, MAX_MEMBERS> = set.members().map(|(_, disk)| usize::from(disk)).collect();
        let members: heapless::Vec<Superblock, MAX_MEMBERS> =
            set.members().filter_map(|(member, _)| set.superblock_of(member, &self.seen).copied()).collect();
        let blocks = usize::try_from(superblock.directory_blocks).map_err(|_| Failed::Nonsense)?;
        let bytes = self.directory.get_mut(..blocks * BLOCK_BYTES).ok_or(Failed::Nonsense)?;
        // Any member's will do: all have the same, and its checksum is in the superblock.
        let mut good = false;
        for (own, &disk) in members.iter().zip(&places) {
            let start = own.layout().directory(own.generation);
            let mut at = start..;
            let read = bytes.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().zip(&mut at);
            let read = read.into_iter().try_for_each(|(block, at)| disks.read(disk, at, block));
            good = read.is_ok() && checked(bytes, own, &stripes).is_ok();
            if good {
                break;
            }
            log::error!("set {}: member {} has no good directory; another one's is tried", superblock.name, own.member);
        }
        if !good {
            return Err(Failed::Error);
        }
        let entries = usize::try_from(superblock.entries).map_err(|_| Failed::Nonsense)?;
        let read_only = places.iter().any(|&disk| disks.list().get(disk).is_none_or(|disk| disk.geometry.read_only));
        let (generation, next_id) = (superblock.generation, superblock.next_id);
        let mut used =
            Used { set: number, disks: places, stripes, generation, highest: generation, entries, next_id, read_only };
        if read_only {
            return Ok(used);
        }
        let change = Change::next(set, superblock.entries, superblock.directory_checksum, superblock.next_id);
        let change = change.ok_or(Failed::Nonsense)?;
        let shared = RefCell::new(disks);
        let write = |member: u16, at: u64, block: &Block| {
            let disk = used.disks.get(usize::from(member)).ok_or(Failed::Nonsense)?;
            shared.borrow_mut().write(*disk, at, block)
        };
        let flush = || used.disks.iter().try_for_each(|&disk| shared.borrow_mut().flush(disk));
        change.carry_out(&members, bytes, write, flush)?;
        (used.generation, used.highest) = (change.generation, change.generation);
        Ok(used)
    }

    /// The disk of a member of the set in use.
    pub fn disk_of(&self, member: u16) -> Option<usize> {
        self.used.as_ref()?.disks.get(usize::from(member)).copied()
    }

    /// Members of the set in use; 0 where none is.
    pub fn members(&self) -> u16 {
        self.used.as_ref().and_then(|used| u16::try_from(used.disks.len()).ok()).unwrap_or(0)
    }

    /// Whether the set in use takes writes.
    pub fn is_writable(&self) -> bool {
        self.used.as_ref().is_some_and(|used| !used.read_only)
    }

    /// How the set in use deals its blocks out.
    pub fn stripes(&self) -> Option<Stripes> {
        Some(self.used.as_ref()?.stripes)
    }

    /// An entry of the directory of the set in use.
    pub fn entry(&self, index: u16) -> Option<Entry> {
        let index = usize::from(index);
        self.used.as_ref().filter(|used| index < used.entries)?;
        entry_at(&self.directory[..], index)
    }

    /// The place in the directory of the virtual disk of this name, in the set in use.
    pub fn disk_called(&self, name: Name) -> Option<u16> {
        let entries = self.used.as_ref()?.entries;
        let is_it = |index: &u16| {
            let entry = self.entry(*index);
            entry.is_some_and(|entry| entry.name.0 == name.0 && matches!(entry.kind, Kind::Disk { .. }))
        };
        (0..u16::try_from(entries).ok()?).find(is_it)
    }

    /// The virtual disk that lies beneath one.
    pub fn beneath(&self, entry: &Entry) -> Option<Entry> {
        let entries = self.used.as_ref()?.entries;
        entry_of(&self.directory[..], entries, entry.beneath?)
    }

    /// What a disk is.
    pub fn disk<C: Controller, H: Host>(&self, index: u16, disks: &Disks<C, H>) -> DiskReply {
        let number = usize::from(index);
        let Some((seen, disk)) = self.seen.get(number).zip(disks.list().get(number)) else { return DiskReply::None };
        let state = match seen {
            Seen::Blank => disk_state::BLANK,
            Seen::Foreign => disk_state::FOREIGN,
            Seen::Unreadable(_) => disk_state::UNREADABLE,
            Seen::Version(_) => disk_state::VERSION,
            Seen::Damaged(_) => disk_state::DAMAGED,
            Seen::Mixed => disk_state::MIXED,
            Seen::Shrunk(_) => disk_state::SHRUNK,
            Seen::Member(_) => disk_state::MEMBER,
        };
        let own = seen.member().and_then(|member| member.newest());
        let is_used = self.used.as_ref().filter(|used| used.disks.contains(&number));
        DiskReply::Disk {
            index,
            driver: disks.driver(number),
            state,
            member: own.map_or(0, |own| own.member),
            blocks: disk.geometry.blocks,
            set: own.map_or([0; 16], |own| own.set.0),
            generation: is_used.map_or(own.map_or(0, |own| own.generation), |used| used.generation),
            requests: disk.requests,
            errors: disk.errors,
        }
    }

    /// What a set is.
    pub fn set(&self, index: u16) -> DiskReply {
        let number = usize::from(index);
        let Some(set) = self.sets.get(number) else { return DiskReply::None };
        let used = self.used.as_ref().filter(|used| used.set == number);
        let state = match used {
            Some(used) if used.read_only => set_state::READ_ONLY,
            Some(_) => set_state::USED,
            None if set.is_usable() && self.unopened != Some(number) => set_state::SPARE,
            None => set_state::BROKEN,
        };
        DiskReply::Set {
            index,
            members: set.superblock.members,
            state,
            name: Name(set.superblock.name.0),
            id: set.id.0,
            generation: used.map_or(set.superblock.generation, |used| used.generation),
            blocks: set.superblock.stripes().map_or(0, |stripes| stripes.blocks()),
        }
    }

    /// What is wrong with a set, for the `index`th time.
    pub fn problem(&self, set: u16, index: u16) -> DiskReply {
        let number = usize::from(set);
        let Some(found) = self.sets.get(number) else { return DiskReply::None };
        let reply = |what, which, first, second| DiskReply::Problem { set, index, what, which, first, second };
        match found.problems.get(usize::from(index)) {
            Some(Problem::Missing { member }) => reply(problem::MISSING, *member, 0, 0),
            Some(Problem::Duplicate { member, disks: [a, b] }) => {
                reply(problem::DUPLICATE, *member, (*a).into(), (*b).into())
            }
            Some(Problem::Stale { disk, generation, newest }) => {
                reply(problem::STALE, (*disk).into(), *generation, *newest)
            }
            Some(Problem::Shrunk { disk, blocks, recorded }) => {
                reply(problem::SHRUNK, (*disk).into(), *blocks, *recorded)
            }
            Some(Problem::Disagrees { disk, .. }) => reply(problem::DISAGREES, (*disk).into(), 0, 0),
            Some(Problem::Unfinished) => reply(problem::UNFINISHED, 0, 0, 0),
            None if index == 0 && self.unopened == Some(number) => reply(problem::UNOPENED, 0, 0, 0),
            None => DiskReply::None,
        }
    }

    /// An entry of the set in use, for who asks.
    pub fn entry_reply(&self, index: u16) -> DiskReply {
        let Some(entry) = self.entry(index) else { return DiskReply::None };
        let kind = match entry.kind {
            Kind::Swap { .. } => entry_kind::SWAP,
            Kind::Disk { read_only: false } => entry_kind::DISK,
            Kind::Disk { read_only: true } => entry_kind::READ_ONLY,
        };
        let beneath = self.beneath(&entry).map_or(Name::EMPTY, |one| Name(one.name.0));
        DiskReply::Entry { index, kind, name: Name(entry.name.0), first: entry.first, blocks: entry.blocks, beneath }
    }
}

#[cfg(test)]
#[path = "sets_tests.rs"]
mod tests;
