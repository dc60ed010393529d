//! A change of the directory of the set in use (a snapshot, a virtual disk that comes or goes): what it makes of it, block by block, before anything is written.

use super::{Sets, Used};
use abi::disk::snapshot;
use abi::limits::Name;
use disk_format::{
    BLOCK_BYTES, Block, Change, ENTRIES_PER_BLOCK, ENTRY_BYTES, Entry, EntryName, Kind, MAX_DEPTH, MAX_ENTRIES,
    Superblock, checksum, depth, zeroed,
};

/// Something else in the place of one entry, or of none.
#[derive(Clone, Copy, Debug)]
struct Edit {
    /// Its place in the present directory.
    at: u16,
    /// It takes the place of the entry there, and is not in front of it.
    replaces: bool,
    /// What it is; nothing for one that goes.
    entry: Option<Entry>,
}

/// A change that can be made.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// In the order of their places; one in front of another one first.
    edits: [Option<Edit>; 2],
    /// The virtual disk that comes, of which nothing is written yet.
    pub comes: Option<Entry>,
    /// The one that goes, and its place.
    pub goes: Option<(u16, Entry)>,
    /// Of a snapshot: the place of the virtual disk that those have who have the one above afterwards.
    pub below: Option<u16>,
    /// The next state of the set.
    pub change: Change,
}

impl Planned {
    fn edits(&self) -> impl DoubleEndedIterator<Item = Edit> + Clone {
        self.edits.into_iter().flatten()
    }

    /// Where an entry stands afterwards; `None` for one that goes.
    pub fn place_after(&self, before: u16) -> Option<u16> {
        let mut after = before;
        for Edit { at, replaces, entry } in self.edits() {
            match (replaces, entry) {
                (false, _) if at <= before => after += 1,
                (true, None) if at == before => return None,
                (true, None) if at < before => after -= 1,
                _ => {}
            }
        }
        Some(after)
    }

    /// Where the virtual disk that comes stands afterwards, and it.
    pub fn place_of_new(&self) -> Option<(u16, Entry)> {
        // Nothing goes where something comes, so nothing is in front of it that was not.
        self.edits().filter(|edit| !edit.replaces).find_map(|edit| Some((edit.at, edit.entry?)))
    }

    /// Applies it to a list, one by one, the last one first: `insert` in front of a place, `remove` there, or `replace` what is there.
    pub fn apply<T>(
        &self,
        list: &mut T,
        mut insert: impl FnMut(&mut T, u16, Entry),
        mut remove: impl FnMut(&mut T, u16),
        mut replace: impl FnMut(&mut T, u16, Entry),
    ) {
        for Edit { at, replaces, entry } in self.edits().rev() {
            match (replaces, entry) {
                (false, Some(entry)) => insert(list, at, entry),
                (true, Some(entry)) => replace(list, at, entry),
                (true, None) => remove(list, at),
                (false, None) => {}
            }
        }
    }
}

/// Why there can be no change: a word of [`abi::disk::snapshot`], and where there is no room the blocks that are needed, and those that there are.
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
        let used = self.to_change()?;
        let Some(old) = self.disk_called(name) else { return no(snapshot::NO_SUCH_DISK) };
        let Some(entry) = self.entry(old) else { return no(snapshot::NO_SUCH_DISK) };
        if entry.kind != (Kind::Disk { read_only: false }) {
            return no(snapshot::NEVER_WRITTEN);
        }
        let called = self.free_name(new)?;
        if depth(&self.directory[..], used.entries, &entry).is_none_or(|depth| depth >= MAX_DEPTH) {
            return no(snapshot::TOO_DEEP);
        }
        let (place, first, next_id) = self.room_for(used, entry.extent())?;
        let frozen = Entry { name: called, kind: Kind::Disk { read_only: true }, ..entry };
        let above = Entry { id: used.next_id, first, beneath: Some(entry.id), ..entry };
        let freeze = Edit { at: old, replaces: true, entry: Some(frozen) };
        let insert = Edit { at: place, replaces: false, entry: Some(above) };
        let edits = if place <= old { [insert, freeze] } else { [freeze, insert] };
        self.planned(used, edits.map(Some), next_id, |planned| Planned {
            comes: Some(above),
            below: Some(old),
            ..planned
        })
    }

    /// A virtual disk `name` with so many blocks, none of which was ever written.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn plan_creation(&self, name: Name, blocks: u64) -> Result<Planned, Unplanned> {
        let used = self.to_change()?;
        let name = self.free_name(name)?;
        if blocks == 0 {
            return Err(Unplanned::of(snapshot::BAD_SIZE));
        }
        let kind = Kind::Disk { read_only: false };
        let new = Entry { kind, id: used.next_id, name, first: 0, blocks, beneath: None };
        let (at, first, next_id) = self.room_for(used, new.extent())?;
        let new = Entry { first, ..new };
        let edit = Edit { at, replaces: false, entry: Some(new) };
        self.planned(used, [Some(edit), None], next_id, |planned| Planned { comes: Some(new), ..planned })
    }

    /// That the virtual disk `name` goes.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn plan_removal(&self, name: Name) -> Result<Planned, Unplanned> {
        let no = |why| Err(Unplanned::of(why));
        let used = self.to_change()?;
        let Some(at) = self.disk_called(name) else { return no(snapshot::NO_SUCH_DISK) };
        let Some(entry) = self.entry(at) else { return no(snapshot::NO_SUCH_DISK) };
        if self.entries().any(|other| other.beneath == Some(entry.id)) {
            return no(snapshot::BENEATH);
        }
        let edit = Edit { at, replaces: true, entry: None };
        self.planned(used, [Some(edit), None], used.next_id, |planned| Planned { goes: Some((at, entry)), ..planned })
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + Clone {
        (0..).map_while(|index| self.entry(index))
    }

    /// The set in use, if it takes writes.
    fn to_change(&self) -> Result<&Used, Unplanned> {
        match &self.used {
            None => Err(Unplanned::of(snapshot::NO_SET)),
            Some(used) if used.read_only => Err(Unplanned::of(snapshot::READ_ONLY_SET)),
            Some(used) => Ok(used),
        }
    }

    /// The name, if it is one and nothing has it.
    fn free_name(&self, name: Name) -> Result<EntryName, Unplanned> {
        let called = EntryName(name.0);
        if !called.is_good() {
            return Err(Unplanned::of(snapshot::BAD_NAME));
        }
        if self.entries().any(|other| other.name == called) {
            return Err(Unplanned::of(snapshot::NAME_TAKEN));
        }
        Ok(called)
    }

    /// The first place with room for another entry of so many blocks: the one of the entry behind it, and its first block; and the id after the next one.
    fn room_for(&self, used: &Used, extent: u64) -> Result<(u16, u64, u32), Unplanned> {
        let room = self.superblocks().next().map_or(0, |own| u64::from(own.directory_blocks) * ENTRIES_PER_BLOCK);
        let count =
            u16::try_from(used.entries).ok().filter(|&count| u64::from(count) < room && used.entries < MAX_ENTRIES);
        let (Some(count), Some(next_id)) = (count, used.next_id.checked_add(1)) else {
            return Err(Unplanned::of(snapshot::FULL));
        };
        let (mut end, mut most) = (0_u64, 0);
        let behind = self.entries().map(|entry| (entry.first, entry.end())).chain([(used.stripes.blocks(), 0)]);
        for (place, (next, next_end)) in (0..=count).zip(behind) {
            let first = end.checked_next_multiple_of(used.stripes.unit()).unwrap_or(u64::MAX);
            let free = next.saturating_sub(first);
            if extent <= free {
                return Ok((place, first, next_id));
            }
            (end, most) = (next_end, free.max(most));
        }
        Err(Unplanned { why: snapshot::NO_ROOM, needed: extent, free: most })
    }

    /// The change with these edits; `more` says what else is known of it.
    fn planned(
        &self,
        used: &Used,
        edits: [Option<Edit>; 2],
        next_id: u32,
        more: impl FnOnce(Planned) -> Planned,
    ) -> Result<Planned, Unplanned> {
        let change = self.change_to(used, edits, next_id).ok_or(Unplanned::of(snapshot::FULL))?;
        Ok(more(Planned { edits, comes: None, goes: None, below: None, change }))
    }

    fn change_to(&self, used: &Used, edits: [Option<Edit>; 2], next_id: u32) -> Option<Change> {
        let end = used.entries * ENTRY_BYTES;
        let bytes = edits.map(|edit| edit.and_then(|edit| edit.entry).map(|entry| entry.to_bytes()));
        // What is between the edits, and they.
        let mut parts: [&[u8]; 5] = [&[]; 5];
        let (mut from, mut entries) = (0, used.entries);
        for (number, (edit, bytes)) in edits.iter().zip(&bytes).enumerate() {
            let Some(edit) = edit else { continue };
            let at = usize::from(edit.at) * ENTRY_BYTES;
            parts[2 * number] = self.directory.get(from..at)?;
            parts[2 * number + 1] = bytes.as_ref().map_or(&[], |bytes| &bytes[..]);
            from = at + if edit.replaces { ENTRY_BYTES } else { 0 };
            entries = (entries + usize::from(bytes.is_some())).checked_sub(usize::from(edit.replaces))?;
        }
        parts[4] = self.directory.get(from..end)?;
        // Above all that anything was written of, with the places that the present state does not have.
        let after = used.highest.checked_add(1)?;
        let same_places = after.is_multiple_of(2) == used.generation.is_multiple_of(2);
        let generation = after.checked_add(u64::from(same_places))?;
        Some(Change {
            generation,
            entries: u32::try_from(entries).ok()?,
            directory_checksum: checksum(&parts),
            next_id,
        })
    }

    /// The bytes of the entry at this place after a change; `None` behind the last one.
    fn entry_after(&self, planned: &Planned, place: usize) -> Option<[u8; ENTRY_BYTES]> {
        let mut before = place;
        for Edit { at, replaces, entry } in planned.edits() {
            // What stands in front of an edit is where it was but for those before.
            let at = usize::from(at);
            match entry {
                _ if before < at => break,
                Some(entry) if before == at => return Some(entry.to_bytes()),
                Some(_) => before -= usize::from(!replaces),
                None => before += 1,
            }
        }
        let used = self.used.as_ref().filter(|used| before < used.entries)?;
        let at = before * ENTRY_BYTES;
        debug_assert!(at < used.entries * ENTRY_BYTES);
        self.directory.get(at..at + ENTRY_BYTES)?.try_into().ok()
    }

    /// A block of the directory as it is after a change.
    pub fn block_after(&self, planned: &Planned, index: u32) -> Block {
        let mut block = zeroed();
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(BLOCK_BYTES / ENTRY_BYTES);
        for (place, to) in (start..).zip(block.as_chunks_mut::<ENTRY_BYTES>().0) {
            match self.entry_after(planned, place) {
                Some(entry) => *to = entry,
                None => break,
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

    /// The disks have the state after a change.
    pub fn changed(&mut self, planned: &Planned) {
        let Some(used) = &mut self.used else { return };
        let end = used.entries * ENTRY_BYTES;
        let mut directory = (&mut self.directory[..], end);
        planned.apply(
            &mut directory,
            |(directory, end), at, entry| {
                let at = usize::from(at) * ENTRY_BYTES;
                // There was room, or it would not have been planned.
                if let Some(rest) = directory.get_mut(at..*end + ENTRY_BYTES) {
                    rest.copy_within(..*end - at, ENTRY_BYTES);
                    rest[..ENTRY_BYTES].copy_from_slice(&entry.to_bytes());
                    *end += ENTRY_BYTES;
                }
            },
            |(directory, end), at| {
                let at = usize::from(at) * ENTRY_BYTES;
                if let Some(rest) = directory.get_mut(at..*end) {
                    rest.copy_within(ENTRY_BYTES.., 0);
                    let kept = rest.len() - ENTRY_BYTES;
                    rest[kept..].fill(0);
                    *end -= ENTRY_BYTES;
                }
            },
            |(directory, _), at, entry| {
                let at = usize::from(at) * ENTRY_BYTES;
                if let Some(to) = directory.get_mut(at..at + ENTRY_BYTES) {
                    to.copy_from_slice(&entry.to_bytes());
                }
            },
        );
        used.entries = directory.1 / ENTRY_BYTES;
        (used.generation, used.next_id) = (planned.change.generation, planned.change.next_id);
    }
}
