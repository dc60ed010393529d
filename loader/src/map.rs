//! The memory map: from what the firmware says to what the core can use. Pure.

use crate::memory::frames::{Entry, Frames, Owner};
use crate::memory::phys::{DIRECT_MAP_BYTES, PhysAddr, index};
use abi::limits::PAGE_SIZE;

/// Areas of the firmware's map at most.
const MAX_AREAS: usize = 96;
/// Below this address nothing is given away: the firmware's data, and the start-up code of other processors later.
pub const LOW_MEMORY_END: u64 = 1 << 20;
/// The early page tables show this much.
pub const EARLY_END: u64 = 1 << 32;

/// Separate pieces of RAM that are used at most; what comes after them is left alone.
pub const MAX_PIECES: usize = 32;

/// A piece of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

/// What an area is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM that is free to use.
    Usable,
    /// RAM that the firmware keeps tables in.
    Firmware,
    /// Anything else.
    Reserved,
}

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
}

/// The firmware's map, in any order, with whatever overlaps.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    list: heapless::Vec<Area, MAX_AREAS>,
}

/// There are more areas than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Areas {
    /// Adds an area. What lies beyond the direct map is left out; what goes on where the last one ended becomes a part of it
    /// (UEFI has many small ones).
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn add(&mut self, area: Area) -> Result<(), TooMany> {
        let area = Area { end: area.end.min(DIRECT_MAP_BYTES), ..area };
        if area.start >= area.end {
            return Ok(());
        }
        match self.list.last_mut() {
            Some(last) if last.kind == area.kind && last.end == area.start => {
                last.end = area.end;
                Ok(())
            }
            _ => self.list.push(area).map_err(|_| TooMany),
        }
    }

    /// Bytes of usable RAM.
    pub fn usable_bytes(&self) -> u64 {
        self.usable().map(|area| area.end - area.start).sum()
    }

    /// First address behind the last usable RAM.
    pub fn end(&self) -> u64 {
        self.usable().map(|area| area.end).max().unwrap_or(0)
    }

    /// Whether some usable RAM lies in `start..end`.
    pub fn have_memory(&self, start: u64, end: u64) -> bool {
        self.usable().any(|area| area.start < end && start < area.end)
    }

    fn usable(&self) -> impl Iterator<Item = &Area> {
        self.list.iter().filter(|area| area.kind == Kind::Usable)
    }

    /// Whole usable pages above the low memory without `used`, in ascending order. What comes after
    /// [`MAX_PIECES`] pieces is left alone.
    pub fn free_pieces(&self, used: &[Piece]) -> heapless::Vec<Piece, MAX_PIECES> {
        let mut pieces: heapless::Vec<Piece, MAX_PIECES> = heapless::Vec::new();
        for area in self.usable() {
            let end = area.end & !(PAGE_SIZE - 1);
            let mut at = area.start.next_multiple_of(PAGE_SIZE).max(LOW_MEMORY_END);
            // Each round passes one taken piece, so their number bounds the loop.
            while at < end {
                let reserved = self.list.iter().filter(|other| other.kind != Kind::Usable);
                let reserved = reserved.map(|other| Piece { start: other.start, end: other.end });
                let taken = used.iter().copied().chain(reserved).chain(pieces.iter().copied());
                let taken = taken.filter(|piece| piece.end > at && piece.start < end);
                let Some(next) = taken.min_by_key(|piece| piece.start) else {
                    let _ = pieces.push(Piece { start: at, end });
                    break;
                };
                if next.start & !(PAGE_SIZE - 1) > at {
                    let _ = pieces.push(Piece { start: at, end: next.start & !(PAGE_SIZE - 1) });
                }
                at = next.end.next_multiple_of(PAGE_SIZE);
            }
        }
        pieces.sort_unstable_by_key(|piece| piece.start);
        pieces
    }

    /// What the direct map shows: low memory, RAM, and the firmware's tables, in ascending order without overlaps.
    pub fn direct_map(&self) -> heapless::Vec<Piece, MAX_AREAS> {
        let mut sorted: heapless::Vec<Piece, MAX_AREAS> = heapless::Vec::new();
        let kept = self.list.iter().filter(|area| area.kind != Kind::Reserved);
        for area in kept {
            let piece = Piece { start: area.start & !(PAGE_SIZE - 1), end: area.end.next_multiple_of(PAGE_SIZE) };
            // As many as the areas at most.
            let _ = sorted.push(piece);
        }
        sorted.sort_unstable_by_key(|piece| piece.start);
        let mut merged = heapless::Vec::new();
        let mut last = Piece { start: 0, end: LOW_MEMORY_END };
        for piece in sorted {
            if piece.start <= last.end {
                last.end = last.end.max(piece.end);
            } else {
                let _ = merged.push(last);
                last = piece;
            }
        }
        let _ = merged.push(last);
        merged
    }
}

/// Makes the frame table in the first free RAM that has room for it, and gives the rest to the allocator. `core` and
/// `modules` are ranges that are in use and whom they belong to. `None` when there is no room for the table.
///
/// # Safety
/// `areas` is the machine's memory map; the lowest 4 GiB are mapped in the direct map; nobody uses RAM but `in_use`.
pub unsafe fn make_frames(areas: &Areas, in_use: &[(Piece, Owner)]) -> Option<Frames> {
    let count = areas.end() / PAGE_SIZE;
    let bytes = (count * size_of::<Entry>() as u64).next_multiple_of(PAGE_SIZE);
    let mut used: heapless::Vec<Piece, 64> = in_use.iter().map(|(piece, _)| *piece).collect();
    let fits = |piece: &&Piece| piece.end.min(EARLY_END).saturating_sub(piece.start) >= bytes;
    let start = areas.free_pieces(&used).iter().find(fits)?.start;
    let table = Piece { start, end: start + bytes };
    used.push(table).ok()?;
    let first: *mut Entry = PhysAddr::new(start).as_ptr();
    // SAFETY: the range is free RAM below 4 GiB by the memory map, in nobody's use, mapped, page-aligned, and has room for
    // `count` entries. Every bit pattern is a valid entry, and `Frames::new` writes all of them first. It is claimed
    // below, so it is never given away.
    let table_entries = unsafe {
        core::ptr::write_bytes(first, 0, index(count));
        core::slice::from_raw_parts_mut(first, index(count))
    };
    let mut frames = Frames::new(table_entries);
    for piece in areas.free_pieces(&used) {
        // As many pieces as extents at most; what would be beyond stays reserved.
        let _ = frames.add_free(piece.start / PAGE_SIZE, piece.end / PAGE_SIZE);
    }
    frames.claim(table.start / PAGE_SIZE, table.end / PAGE_SIZE, Owner::Core);
    for (piece, owner) in in_use {
        frames.claim(piece.start / PAGE_SIZE, piece.end.div_ceil(PAGE_SIZE), *owner);
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn areas(list: &[(u64, u64, Kind)]) -> Areas {
        let mut areas = Areas::default();
        for &(start, end, kind) in list {
            areas.add(Area { start, end, kind }).expect("room");
        }
        areas
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_pc() {
        let map = areas(&[
            (0, 0x9_fc00, Kind::Usable),
            (0x9_fc00, MIB, Kind::Reserved),
            (MIB, 127 * MIB + 0x800, Kind::Usable),
            (127 * MIB + 0x800, 128 * MIB, Kind::Firmware),
            (0xfffc_0000, 1 << 32, Kind::Reserved),
        ]);
        let used = [Piece { start: MIB, end: 2 * MIB }, Piece { start: 4 * MIB + 5, end: 4 * MIB + 6 }];
        let piece = |start, end| Piece { start, end };
        let free = map.free_pieces(&used);
        assert_eq!(free[..], [piece(2 * MIB, 4 * MIB), piece(4 * MIB + 4096, 127 * MIB)]);
        assert_eq!(map.direct_map()[..], [piece(0, 128 * MIB)]);
        assert_eq!(map.end(), 127 * MIB + 0x800);
    }

    #[test]
    fn neighbours_become_one() {
        let many: Vec<_> = (0..1000).map(|i| (i * MIB, (i + 1) * MIB, Kind::Usable)).collect();
        let map = areas(&many);
        assert_eq!(map.usable_bytes(), 1000 * MIB);
        assert_eq!(map.free_pieces(&[])[..], [Piece { start: MIB, end: 1000 * MIB }]);
    }

    #[test]
    fn beyond_the_direct_map() {
        let map = areas(&[(MIB, u64::MAX, Kind::Usable), (1 << 50, 1 << 51, Kind::Usable)]);
        assert_eq!(map.end(), DIRECT_MAP_BYTES);
    }

    fn area() -> impl Strategy<Value = Area> {
        let kind = prop_oneof![Just(Kind::Usable), Just(Kind::Firmware), Just(Kind::Reserved)];
        (0_u64..64 * MIB, 1_u64..16 * MIB, kind).prop_map(|(start, bytes, kind)| Area {
            start,
            end: start + bytes,
            kind,
        })
    }

    proptest! {
        #[test]
        fn free_is_usable_and_unused(list in prop::collection::vec(area(), 0..12), used in prop::collection::vec((0_u64..64 * MIB, 1_u64..4 * MIB), 0..6)) {
            let mut map = Areas::default();
            for area in &list {
                map.add(*area).expect("room");
            }
            let used: Vec<_> = used.into_iter().map(|(start, bytes)| Piece { start, end: start + bytes }).collect();
            let free = map.free_pieces(&used);
            let usable_page = |page: u64| {
                let inside = |area: &&Area| area.start <= page && page + PAGE_SIZE <= area.end;
                let touches = |start: u64, end: u64| start < page + PAGE_SIZE && end > page;
                page >= LOW_MEMORY_END
                    && list.iter().any(|area| area.kind == Kind::Usable && inside(&area))
                    && !list.iter().any(|area| area.kind != Kind::Usable && touches(area.start, area.end))
                    && !used.iter().any(|piece| touches(piece.start, piece.end))
            };
            for page in (0..81 * MIB).step_by(4096) {
                let holders = free.iter().filter(|piece| piece.start <= page && page < piece.end).count();
                prop_assert!(holders <= 1);
                prop_assert!(holders == 0 || usable_page(page));
                // A page that two usable areas share half each is the only usable one that may be missing.
                prop_assert!(holders == 1 || !usable_page(page) || free.len() == MAX_PIECES);
            }
            let direct = map.direct_map();
            prop_assert!(direct.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
