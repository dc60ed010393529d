use super::super::bench_test::Bench;
use super::*;
use crate::memory::OwnerClass;
use abi::swap::tier;

const TABLES: Owner = Owner::VmTables(7);
/// The last page that there is room for.
const LAST: u32 = LEAVES * EACH - 1;

fn bundle(number: u32) -> Bundle {
    Bundle {
        counter: u64::from(number) + 1,
        checksum: 1,
        place: number,
        bytes: 100 + number,
        pages: 1,
        tier: tier::PAGE,
    }
}

/// A VM's directory, frames, and what it holds of them.
struct Desk {
    bench: Bench,
    held: Reservation,
    away: Away,
}

impl Desk {
    /// So many frames, the first of which is number 1.
    fn new(count: usize) -> Self {
        let mut bench = Bench::new(count + 1);
        let held = Reservation::open(&mut bench.frames, 0, u32::MAX).expect("nothing is kept");
        Desk { bench, held, away: Away::default() }
    }

    fn prepare(&mut self, page: u32) -> bool {
        self.away.prepare(&mut self.bench.frames, &mut self.held, TABLES, page)
    }

    fn trim(&mut self, page: u32) {
        self.away.trim(&mut self.bench.frames, &mut self.held, TABLES, page);
    }

    /// These pages are out; each one's bundle lies at its number.
    fn put(&mut self, pages: &[u32]) {
        for &page in pages {
            assert!(self.prepare(page), "no room for {page}");
            self.away.put(page, &bundle(page));
        }
    }

    /// Frames that are the VM's, by the table, by what it holds, and by what the directory says.
    fn frames(&self) -> u64 {
        let count = self.bench.frames.count_of(OwnerClass::VmTables);
        assert_eq!((u64::from(self.held.held()), u64::from(self.away.frames())), (count, count));
        count
    }

    /// All that are out, in the order in which they are found.
    fn all(&self) -> Vec<u32> {
        let mut from = 0;
        core::iter::from_fn(|| {
            let (page, found) = self.away.next(from)?;
            assert_eq!((found, self.away.get(page)), (bundle(page), Some(found)));
            from = page + 1;
            Some(page)
        })
        .collect()
    }

    /// The VM is gone. What its pages took of the pool.
    fn discard(&mut self, discarded: &mut Discarded) -> u64 {
        let directory = core::mem::take(&mut self.away).keep();
        self.held = Reservation::open(&mut self.bench.frames, 0, u32::MAX).expect("nothing is kept");
        discarded.push(&mut self.bench.frames, directory, TABLES)
    }
}

/// Pages of several leaves, the first and the last that there are among them.
const SPREAD: [u32; 7] = [0, EACH - 1, EACH, 5 * EACH + 3, 5 * EACH + 4, LAST - 1, LAST];

#[test]
fn pages_of_all_leaves_are_found_where_they_were_put() {
    let mut desk = Desk::new(20);
    assert!(desk.away.is_none() && desk.all().is_empty() && desk.away.get(0).is_none());
    desk.put(&SPREAD);
    assert!(!desk.away.is_none());
    assert_eq!((desk.away.pages(), desk.frames()), (7, 5), "of four leaves");
    assert_eq!(desk.all(), SPREAD);
    // From within a leaf, from behind its last one, and from behind all.
    assert_eq!(
        [4, 5].map(|at| desk.away.next(5 * EACH + at).map(|(page, _)| page)),
        [Some(5 * EACH + 4), Some(LAST - 1)]
    );
    assert_eq!(
        [LAST, LAST + 1, u32::MAX].map(|page| desk.away.next(page).map(|(page, _)| page)),
        [Some(LAST), None, None]
    );
    for (page, left) in SPREAD.into_iter().zip((0..7).rev()) {
        assert_eq!((desk.away.take(page), desk.away.take(page)), (Some(bundle(page)), None));
        assert_eq!(desk.away.pages(), left);
        desk.trim(page);
    }
    assert!(desk.away.is_none() && desk.frames() == 0);
}

#[test]
fn a_directory_has_room_for_all_its_leaves() {
    let mut desk = Desk::new(LEAVES as usize + 1);
    let pages: Vec<u32> = (0..LEAVES).map(|leaf| leaf * EACH + leaf % EACH).collect();
    desk.put(&pages);
    // What it says beside them is not in their place.
    let leaving = Pages { first: 7 * EACH, bits: 1 << 63 | 1 };
    desk.away.set_leaving(leaving);
    assert_eq!((desk.away.leaving(), desk.all()), (leaving, pages));
    assert_eq!((desk.away.pages(), desk.frames()), (LEAVES, u64::from(LEAVES) + 1));
}

#[test]
fn no_page_is_out_that_a_directory_has_no_room_for() {
    let mut desk = Desk::new(20);
    assert!([LAST + 1, LAST + EACH, u32::MAX].into_iter().all(|page| !desk.prepare(page)));
    assert!(desk.away.is_none() && desk.frames() == 0);
    // The directory is frame 1 and the leaf frame 2, and two frames are what the directory says behind its leaves.
    desk.put(&[5, 6]);
    assert_eq!((desk.away.pages(), desk.frames()), (2, 2));
    for page in (LAST + 1..LAST + 9 * EACH).chain([u32::MAX]) {
        desk.away.put(page, &bundle(9));
        assert_eq!((desk.away.get(page), desk.away.take(page), desk.away.next(page)), (None, None, None), "{page}");
    }
    assert_eq!((desk.away.pages(), desk.all()), (2, vec![5, 6]));
}

#[test]
fn whoever_has_no_directory_has_nothing_out_and_nothing_on_its_way() {
    let mut desk = Desk::new(2);
    // Whatever lies in frame 0, which no directory is.
    for word in 0..1024 {
        set(0, word, 1);
    }
    desk.away.set_leaving(Pages { first: 64, bits: 1 });
    desk.away.put(5, &bundle(5));
    assert_eq!((desk.away.leaving(), desk.away.get(5), desk.away.take(5)), (Pages::default(), None, None));
    assert_eq!((desk.away.pages(), desk.away.frames(), desk.away.next(0)), (0, 0, None));
    assert!((0..1024).all(|word| get(0, word) == 1));
}

#[test]
fn without_a_frame_there_is_no_room_and_nothing_is_left_of_the_attempt() {
    let mut desk = Desk::new(1);
    assert!(!desk.prepare(300), "a directory and no leaf");
    assert!(desk.away.is_none() && desk.frames() == 0);
    let mut desk = Desk::new(2);
    desk.put(&[300]);
    assert!(desk.prepare(301) && !desk.prepare(5));
    assert_eq!((desk.all(), desk.frames()), (vec![300], 2));
}

#[test]
fn a_page_that_is_put_twice_counts_once() {
    let mut desk = Desk::new(2);
    desk.put(&[300, 300]);
    assert_eq!((desk.away.pages(), desk.all()), (1, vec![300]));
}

#[test]
fn a_leaf_is_kept_while_a_page_of_it_is_out_or_on_its_way() {
    let mut desk = Desk::new(20);
    assert!(desk.prepare(2 * EACH) && desk.prepare(5 * EACH));
    // Neither page has anything to do with the place of the other in its leaf.
    let leaving = Pages { first: 2 * EACH + 64, bits: 1 };
    desk.away.set_leaving(leaving);
    desk.trim(2 * EACH + 3);
    assert_eq!((desk.away.leaving(), desk.frames()), (leaving, 3));
    // The other one is empty, and nothing of it is on its way.
    desk.trim(5 * EACH + 64);
    assert_eq!(desk.frames(), 2);
    desk.away.set_leaving(Pages { bits: 0, ..leaving });
    desk.trim(2 * EACH + 3);
    assert!(desk.away.is_none() && desk.frames() == 0);
    // One of two leaves is left.
    desk.put(&[2 * EACH, 5 * EACH, 5 * EACH + 1]);
    for page in [2 * EACH, 5 * EACH] {
        assert!(desk.away.take(page).is_some());
        desk.trim(page);
    }
    assert_eq!((desk.all(), desk.frames()), (vec![5 * EACH + 1], 2));
    // And the other comes anew.
    desk.put(&[2 * EACH + 9]);
    assert_eq!((desk.all(), desk.frames()), (vec![2 * EACH + 9, 5 * EACH + 1], 3));
}

#[test]
fn a_directory_is_found_again_that_was_kept() {
    let mut desk = Desk::new(20);
    desk.put(&SPREAD);
    let kept = core::mem::take(&mut desk.away).keep();
    assert!(kept != 0 && desk.away.is_none());
    desk.away = Away::found(kept);
    assert_eq!((desk.all(), desk.frames()), (SPREAD.to_vec(), 5));
}

#[test]
fn what_is_discarded_is_named_once_and_its_frames_are_free_as_soon_as_they_say_nothing() {
    let mut desk = Desk::new(40);
    let mut discarded = Discarded::NONE;
    assert!(discarded.is_empty() && discarded.pop(&mut desk.bench.frames).is_none());
    let others = [EACH + 7, 9 * EACH];
    let mut bytes = 0;
    for pages in [&SPREAD[..], &others] {
        desk.put(pages);
        bytes += desk.discard(&mut discarded);
    }
    let expected: Vec<u32> = others.iter().chain(&SPREAD).copied().collect();
    assert_eq!(bytes, expected.iter().map(|&page| u64::from(100 + page)).sum::<u64>());
    let core = |desk: &Desk| desk.bench.frames.count_of(OwnerClass::Core);
    assert_eq!((core(&desk), desk.frames()), (3 + 5, 0), "they are the core's");
    let named = |discarded: &Discarded| discarded.all().iter().map(|bundle| bundle.place).collect::<Vec<_>>();
    // Frames that are left when each of them is named: those of the leaves before are free.
    for (at, frames) in [8, 7, 5, 5, 4, 3, 3, 2, 2].into_iter().enumerate() {
        assert_eq!(named(&discarded), expected[at..]);
        assert!(!discarded.is_empty());
        let found = discarded.pop(&mut desk.bench.frames);
        assert_eq!((found, core(&desk)), (Some(bundle(expected[at])), frames), "number {at}");
        // What was free is somebody else's meanwhile.
        while let Some(frame) = desk.bench.frames.alloc(Owner::Golden(1), 0) {
            memory(number(frame)).write(0, &[0xee; 4096]).expect("a page");
        }
    }
    assert_eq!(discarded.pop(&mut desk.bench.frames), None);
    assert!(discarded.is_empty() && core(&desk) == 0 && named(&discarded).is_empty());
}

#[test]
fn nobody_is_told_of_what_is_cleared_and_its_frames_are_free() {
    let mut desk = Desk::new(40);
    let mut discarded = Discarded::NONE;
    for pages in [&SPREAD[..], &[EACH + 7]] {
        desk.put(pages);
        desk.discard(&mut discarded);
    }
    discarded.clear(&mut desk.bench.frames);
    assert!(discarded.is_empty() && discarded.pop(&mut desk.bench.frames).is_none());
    assert_eq!(desk.bench.frames.free_frames(), 40);
}
