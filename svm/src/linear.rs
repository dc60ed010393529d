//! From a guest's linear addresses to the bytes there, through page tables that the guest wrote itself: every entry is an
//! allegation, and the walk has a fixed number of steps.

use backend::GuestMemory;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bits of an entry (APM vol. 2, 5.4).
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The byte at guest-physical `address`, whose page is returned with it.
fn page<M: GuestMemory>(memory: &M, address: u64) -> Option<NonNull<[AtomicU64; 512]>> {
    memory.page(address & FRAME)
}

/// An entry of a guest's page tables, and what it said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) at: NonNull<AtomicU64>,
    pub(crate) said: u64,
}

/// The entries that led to a page, from the top; behind the last, the last again.
pub(crate) type Path = [Entry; 4];

/// Guest-physical address of the linear `address` under the top page table at `cr3`, and the entries that say so. Whether the
/// guest may do there what it did has been checked by the CPU, which has just fetched the instruction.
fn walk<M: GuestMemory>(memory: &M, cr3: u64, address: u64) -> Option<(u64, Path)> {
    let mut table = cr3 & FRAME;
    let mut path = [Entry { at: NonNull::dangling(), said: 0 }; 4];
    for (step, level) in [3_u32, 2, 1, 0].into_iter().enumerate() {
        let shift = 12 + 9 * level;
        let index = usize::try_from(address >> shift & 511).ok()?;
        // SAFETY: `GuestMemory` keeps the page readable; nothing flushes or releases the guest in this function.
        let entry = &unsafe { page(memory, table)?.as_ref() }[index];
        let said = entry.load(Ordering::Relaxed);
        if said & PRESENT == 0 {
            return None;
        }
        path[step..].fill(Entry { at: NonNull::from(entry), said });
        if level == 0 || (said & LARGE != 0 && level < 3) {
            let within = (1 << shift) - 1;
            return Some((said & FRAME & !within | address & within, path));
        }
        table = said & FRAME;
    }
    None
}

/// Where the four bytes at the linear `address` lie, if they are in one page, and the entries that say so.
pub(crate) fn locate<M: GuestMemory>(memory: &M, cr3: u64, address: u64) -> Option<(NonNull<u8>, Path)> {
    let offset = usize::try_from(address & 0xfff).ok().filter(|offset| *offset <= 4092)?;
    let (physical, path) = walk(memory, cr3, address)?;
    // SAFETY: the offset is within the page.
    Some((unsafe { page(memory, physical)?.cast::<u8>().add(offset) }, path))
}

/// Copy the bytes at the linear `address` until `bytes`, which is shorter than a page, is full or there are no more. How many there were.
pub(crate) fn fetch<M: GuestMemory>(memory: &M, cr3: u64, address: u64, bytes: &mut [u8]) -> usize {
    let first = usize::try_from(address & 0xfff).unwrap_or(0);
    let in_first = (4096 - first).min(bytes.len());
    let (here, there) = bytes.split_at_mut(in_first);
    let mut count = 0;
    // An instruction lies in two pages at most: each is looked for once.
    for (part, at, offset) in [(here, address, first), (there, address.wrapping_add(in_first as u64), 0)] {
        if part.is_empty() {
            break;
        }
        let Some(page) = walk(memory, cr3, at).and_then(|(physical, _)| page(memory, physical)) else { break };
        for (byte, offset) in part.iter_mut().zip(offset..) {
            // SAFETY: the page is readable by `GuestMemory`'s contract, and the index is below 512: no part is longer than the rest of its page.
            let word = unsafe { page.as_ref() }[offset / 8].load(Ordering::Relaxed);
            *byte = word.to_le_bytes()[offset % 8];
        }
        count += part.len();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::boxed::Box;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Memory(BTreeMap<u64, Box<[AtomicU64; 512]>>);

    // SAFETY: the pages live as long as the map, and nobody takes one out.
    unsafe impl GuestMemory for Memory {
        fn page(&self, address: u64) -> Option<NonNull<[AtomicU64; 512]>> {
            assert_eq!(address & !FRAME, 0);
            self.0.get(&address).map(|page| NonNull::from(&**page))
        }
    }

    impl Memory {
        fn set(&mut self, address: u64, value: u64) {
            let page = self.0.entry(address & !0xfff).or_insert_with(|| Box::new([const { AtomicU64::new(0) }; 512]));
            page[usize::try_from(address & 0xfff).expect("small") / 8].store(value, Ordering::Relaxed);
        }

        fn at(&self, cr3: u64, address: u64) -> [u8; 4] {
            let mut bytes = [0xee; 4];
            let count = fetch(self, cr3, address, &mut bytes);
            assert!(bytes[count..].iter().all(|&byte| byte == 0xee));
            bytes
        }
    }

    /// Page tables as a guest starts with: one entry of 1 GiB.
    fn started() -> Memory {
        let mut memory = Memory::default();
        memory.set(0x1000, 0x2003);
        memory.set(0x2000, 0x83);
        memory.set(0x2_0000, 0x8877_6655_4433_2211);
        memory.set(0x2_0ff8, 0xffee_ddcc_bbaa_9988);
        memory
    }

    #[test]
    fn a_page_of_1_gib() {
        let mut memory = started();
        assert_eq!(memory.at(0x1000, 0x2_0001), [0x22, 0x33, 0x44, 0x55]);
        assert_eq!(memory.at(0x1fff, 0x2_0001), [0x22, 0x33, 0x44, 0x55], "low bits of CR3 do not count");
        assert_eq!(memory.at(0x1000, 0x2_0ffe), [0xee, 0xff, 0xee, 0xee], "the next page is not there");
        memory.set(0x2_1000, 0x2211);
        assert_eq!(memory.at(0x1000, 0x2_0ffe), [0xee, 0xff, 0x11, 0x22]);
        let (place, path) = locate(&memory, 0x1000, 0x2_0ffc).expect("one page");
        assert_eq!(path.map(|entry| entry.said), [0x2003, 0x83, 0x83, 0x83]);
        // SAFETY: the page lives as long as `memory`.
        assert_eq!(unsafe { place.cast::<[u8; 4]>().read() }, [0xcc, 0xdd, 0xee, 0xff]);
        assert!(locate(&memory, 0x1000, 0x2_0ffd).is_none());
        assert!(locate(&memory, 0x1000, 0x3_0000).is_none());
    }

    #[test]
    fn smaller_pages() {
        let mut memory = started();
        memory.set(0x2000, 0x3003);
        memory.set(0x3000, 0x4003);
        memory.set(0x4000 + 8 * 5, 1 << 63 | 0x2_0003);
        memory.set(0x3008, 0x83);
        assert_eq!(memory.at(0x1000, 0x5004), [0x55, 0x66, 0x77, 0x88]);
        assert_eq!(memory.at(0x1000, 0x22_0000), [0x11, 0x22, 0x33, 0x44], "2 MiB");
        assert_eq!(memory.at(0x1000, 0x6000), [0xee; 4]);
        let (_, path) = locate(&memory, 0x1000, 0x5004).expect("one page");
        assert_eq!(path.map(|entry| entry.said), [0x2003, 0x3003, 0x4003, 1 << 63 | 0x2_0003]);
    }

    #[test]
    fn what_a_guest_alleges_ends_the_walk() {
        let mut memory = started();
        assert_eq!(memory.at(0x7000, 0x2_0000), [0xee; 4], "no top table");
        memory.set(0x1000, u64::MAX);
        assert_eq!(memory.at(0x1000, 0x2_0000), [0xee; 4], "the next table is nowhere");
        memory.set(0x1000, 0x1003);
        assert_eq!(memory.at(0x1000, 0).len(), 4, "a table that is its own next level");
        memory.set(0x1000, 0x1002);
        assert_eq!(memory.at(0x1000, 0), [0xee; 4], "not present");
    }
}
