//! The page tables with which steps run.

use crate::machine::{PAGE, Pages, corpus, load, store};
use abi::guest::{NIC_BASE, REGISTER_PAGE};
use abi::nic::NicPage;
use core::mem::offset_of;
use guest_fuzz::act::{Places, ROOTS, TABLES};

/// Pages that a step may write, and nothing lies in.
const SCRATCH_PAGES: usize = 16;
/// Memory that one table of the lowest level maps, which is all that the guest has.
const MAPPED: u64 = 2 << 20;
/// Entries: present, writable, and one that maps a large page.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 0x80;

static SCRATCH: Pages<SCRATCH_PAGES> = Pages::new();
static RANDOM: Pages<{ TABLES as usize }> = Pages::new();
/// Four levels, the first one first.
static LEVELS: Pages<4> = Pages::new();

/// Makes them. Where everything is; `None` when nobody has put instructions into the image.
pub fn make() -> Option<Places> {
    let corpus = corpus();
    if load(corpus).to_le_bytes() == guest_fuzz::MARK[..8] {
        return None;
    }
    let nic_word = load(NIC_BASE + u64::try_from(offset_of!(NicPage, rx_slots)).ok()?);
    let places = Places {
        corpus,
        scratch: SCRATCH.address(),
        scratch_bytes: (SCRATCH_PAGES * PAGE) as u64,
        tables: RANDOM.address(),
        root: LEVELS.address(),
        memory_bytes: MAPPED,
        rx_slots: u32::try_from(nic_word & 0xffff).ok()?,
        tx_slots: u32::try_from(nic_word >> 32 & 0xffff).ok()?,
    };
    mend(&places);
    Some(places)
}

/// Makes what steps may have changed as it was.
pub fn mend(places: &Places) {
    let page = PAGE as u64;
    let level = |number: u64| places.root + number * page;
    let entry = |table: u64, index: u64, value: u64| {
        // SAFETY: one of `LEVELS`.
        unsafe { store(table + 8 * index, value, 8) };
    };
    entry(level(0), 0, level(1) | PRESENT | WRITABLE);
    entry(level(1), 0, level(2) | PRESENT | WRITABLE);
    entry(level(2), 0, level(3) | PRESENT | WRITABLE);
    // Beyond the memory.
    entry(level(2), 1, MAPPED | PRESENT | WRITABLE | LARGE);
    let may_write = [
        REGISTER_PAGE..REGISTER_PAGE + page,
        NIC_BASE..NIC_BASE + 9 * page,
        places.scratch..places.scratch + places.scratch_bytes,
        places.tables..places.tables + u64::from(TABLES) * page,
    ];
    for number in 0..512 {
        let address = number * page;
        let writable = if may_write.iter().any(|range| range.contains(&address)) { WRITABLE } else { 0 };
        entry(level(3), number, address | PRESENT | writable);
    }
    for root in 1..=u64::from(ROOTS) {
        entry(level(0), root, (places.tables + root % u64::from(TABLES) * page) | PRESENT | WRITABLE);
    }
}
