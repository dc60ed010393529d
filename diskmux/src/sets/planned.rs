//! A snapshot, as a change of the directory of the set in use: what it makes of it, block by block, before anything is written.

use super::{Sets, Used};
use abi::disk::snapshot;
use abi::limits::Name;
use disk_format::{
    BLOCK_BYTES, Block, Change, ENTRIES_PER_BLOCK, ENTRY_BYTES, Entry, EntryName, Kind, MAX_DEPTH, MAX_ENTRIES,
    Superblock, checksum, depth, zeroed,
};

/// A snapshot that can be taken.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// The place in the directory of the virtual disk.
    pub old: u16,
    /// What stands there then: it has the snapshot's name, and is never written.
    pub frozen: Entry,
    /// The place behind the last one.
    pub place: u16,
    /// What stands there: it has the virtual disk's name, and lies on the other one.
    pub above: Entry,
    /// The next state of the set.
    pub change: Change,
}

/// Why there is no snapshot: a word of [`abi::disk::snapshot`], and where there is no room the blocks that are needed, and those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplanned {
    pub why: u16,
    pub needed: u64,
    pub free: u64,
}

impl Unplanned {
    pub const fn of(why: u16) -> Self {
        Unplanned { why, needed: 0, free: 0 }
    }
}

impl Sets {
    /// A snapshot of the virtual disk `name`, called `new`.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn plan_snapshot(&self, name: Name, new: Name) -> Result<Planned, Unplanned> {
        let no = |why| Err(Unplanned::of(why));
        let Some(used) = &self.used else { return no(snapshot::NO_SET) };
        if used.read_only {
            return no(snapshot::READ_ONLY_SET);
        }
        let Some(old) = self.disk_called(name) else { return no(snapshot::NO_SUCH_DISK) };
        let Some(entry) = self.entry(old) else { return no(snapshot::NO_SUCH_DISK) };
        if entry.kind != (Kind::Disk { read_only: false }) {
            return no(snapshot::NEVER_WRITTEN);
        }
        let called = EntryName(new.0);
        if !called.is_good() {
            return no(snapshot::BAD_NAME);
        }
        let entries = (0..).map_while(|index| self.entry(index));
        if entries.clone().any(|other| other.name == called) {
            return no(snapshot::NAME_TAKEN);
        }
        if depth(&self.directory[..], used.entries, &entry).is_none_or(|depth| depth >= MAX_DEPTH) {
            return no(snapshot::TOO_DEEP);
        }
        let room = self.superblocks().next().map_or(0, |own| u64::from(own.directory_blocks) * ENTRIES_PER_BLOCK);
        let place =
            u16::try_from(used.entries).ok().filter(|&place| u64::from(place) < room && used.entries < MAX_ENTRIES);
        let (Some(place), Some(next_id)) = (place, used.next_id.checked_add(1)) else { return no(snapshot::FULL) };
        let end = entries.map(|other| other.end()).max().unwrap_or(0);
        let first = end.checked_next_multiple_of(used.stripes.unit()).unwrap_or(u64::MAX);
        let free = used.stripes.blocks().saturating_sub(first);
        if entry.extent() > free {
            return Err(Unplanned { why: snapshot::NO_ROOM, needed: entry.extent(), free });
        }
        let frozen = Entry { name: called, kind: Kind::Disk { read_only: true }, ..entry };
        let above = Entry { id: used.next_id, first, beneath: Some(entry.id), ..entry };
        let Some(change) = self.change_to(used, (old, &frozen), &above, next_id) else { return no(snapshot::FULL) };
        Ok(Planned { old, frozen, place, above, change })
    }

    fn change_to(&self, used: &Used, (old, frozen): (u16, &Entry), above: &Entry, next_id: u32) -> Option<Change> {
        let (at, end) = (usize::from(old) * ENTRY_BYTES, used.entries * ENTRY_BYTES);
        let [before, behind] = [self.directory.get(..at)?, self.directory.get(at + ENTRY_BYTES..end)?];
        let directory_checksum = checksum(&[before, &frozen.to_bytes(), behind, &above.to_bytes()]);
        // Above all that anything was written of, with the places that the present state does not have.
        let after = used.highest.checked_add(1)?;
        let same_places = after.is_multiple_of(2) == used.generation.is_multiple_of(2);
        let generation = after.checked_add(u64::from(same_places))?;
        Some(Change { generation, entries: u32::try_from(used.entries + 1).ok()?, directory_checksum, next_id })
    }

    /// A block of the directory as it is after a snapshot.
    pub fn block_after(&self, planned: &Planned, index: u32) -> Block {
        let mut block = zeroed();
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(BLOCK_BYTES);
        if let Some(present) = self.directory.get(start..).and_then(|rest| rest.get(..BLOCK_BYTES)) {
            block.copy_from_slice(present);
        }
        for (place, entry) in [(planned.old, &planned.frozen), (planned.place, &planned.above)] {
            let within = (usize::from(place) * ENTRY_BYTES).checked_sub(start);
            if let Some(to) = within.and_then(|at| block.get_mut(at..)?.get_mut(..ENTRY_BYTES)) {
                to.copy_from_slice(&entry.to_bytes());
            }
        }
        block
    }

    /// What the members of the set in use say of it, by member.
    pub fn superblocks(&self) -> impl Iterator<Item = &Superblock> {
        let set = self.used.as_ref().and_then(|used| self.sets.get(used.set));
        set.into_iter().flat_map(|set| set.members().filter_map(|(member, _)| set.superblock_of(member, &self.seen)))
    }

    /// Something of this generation is being written.
    pub fn proposed(&mut self, generation: u64) {
        if let Some(used) = &mut self.used {
            used.highest = used.highest.max(generation);
        }
    }

    /// The disks have the state after a snapshot.
    pub fn changed(&mut self, planned: &Planned) {
        for (place, entry) in [(planned.old, &planned.frozen), (planned.place, &planned.above)] {
            let at = usize::from(place) * ENTRY_BYTES;
            if let Some(to) = self.directory.get_mut(at..at + ENTRY_BYTES) {
                to.copy_from_slice(&entry.to_bytes());
            }
        }
        if let Some(used) = &mut self.used {
            used.entries += 1;
            (used.generation, used.next_id) = (planned.change.generation, planned.change.next_id);
        }
    }
}
