//! Single pages of one VM's memory that go out and come back, with frames that run out.

use super::placed;
use super::vm_memory::{Bench, DATA, PAGES, PARTIAL, SLOT, TEXT};
use crate::memory::{OwnerClass, PhysAddr, Reservation, core_memory};
use crate::vm::{Image, Memory, PageError, Pages};
use abi::guest::IMAGE_BASE;
use abi::limits::PAGE_SIZE;
use abi::swap::{Bundle, tier};

/// The first page of an order: one that is not the first of its leaf.
const ORDER: u32 = 192;
/// Pages of the VM among those that the order can name.
const MINE: [u32; 4] = [ORDER, ORDER + 3, ORDER + 40, ORDER + 63];
/// All that it can name.
const ALL: Pages = Pages { first: ORDER, bits: !0 };

fn bundle(page: u32) -> Bundle {
    Bundle { counter: u64::from(page) + 1, checksum: 7, place: page, bytes: 64, pages: 1, tier: tier::PAGE }
}

fn bits(pages: &[u32]) -> u64 {
    pages.iter().map(|page| 1 << (page - ORDER)).sum()
}

/// It has its pages, each with its number in it.
fn bench() -> Bench {
    let mut bench = Bench::new();
    for page in MINE {
        let frame = bench.zero(page).expect("room").expect("new");
        core_memory(frame, PAGE_SIZE).store64(8, page.into()).expect("a page");
    }
    bench
}

/// Pages that are chosen go, as many as may. Which do, and their frames.
fn send(bench: &mut Bench, pages: Pages, most: u32, show: usize) -> (u64, Vec<PhysAddr>) {
    let mut frames = Vec::new();
    let Bench { machine, memory, image } = bench;
    let sent = memory.send_away(&mut machine.kernel.cpu.frames, pages, most, image, |_, frame| {
        let fits = frames.len() < show;
        frames.extend(fits.then_some(frame));
        fits
    });
    assert_eq!(sent.first, pages.first);
    (sent.bits, frames)
}

fn put_away(bench: &mut Bench, page: u32, frame: PhysAddr) {
    bench.memory.put_away(&mut bench.machine.kernel.cpu.frames, page, frame, &bundle(page));
}

fn all_sent(bench: &mut Bench) {
    bench.memory.all_sent(&mut bench.machine.kernel.cpu.frames, ORDER);
}

/// All its pages are out.
fn all_out() -> Bench {
    let mut bench = bench();
    let (sent, frames) = send(&mut bench, ALL, 64, 64);
    assert_eq!(sent, bits(&MINE));
    for (page, frame) in MINE.into_iter().zip(frames) {
        put_away(&mut bench, page, frame);
    }
    all_sent(&mut bench);
    bench
}

/// It went out as a whole, and is in again.
fn in_again(bench: Bench) -> Bench {
    let Bench { mut machine, memory, image } = bench;
    let cpu = &mut machine.kernel.cpu;
    let directory = memory.release(&mut cpu.frames);
    let reservation = Reservation::open(&mut cpu.frames, 0, 1000).expect("nothing is kept");
    let mut memory = Memory::new(&cpu.backend, &mut cpu.frames, reservation, SLOT, PAGES, image.end).expect("room");
    memory.adopt(&mut cpu.frames, directory);
    Bench { machine, memory, image }
}

#[test]
fn pages_that_are_chosen_leave_in_their_order_and_lie_where_it_is_said() {
    let mut bench = bench();
    let frames: Vec<_> = MINE.iter().map(|&page| bench.mapping(page).expect("it is there").0).collect();
    let (sent, shown) = send(&mut bench, ALL, 64, 64);
    assert_eq!((sent, &shown), (bits(&MINE), &frames));
    for page in ORDER..ORDER + 64 {
        let mine = MINE.contains(&page);
        assert_eq!((bench.memory.is_leaving(page), bench.memory.is_elsewhere(page)), (mine, mine), "{page}");
        assert_eq!(bench.mapping(page), None);
    }
    // Nothing else is mapped there meanwhile.
    assert_eq!((bench.zero(MINE[1]), bench.mapping(MINE[1])), (Ok(None), None));
    put_away(&mut bench, MINE[1], frames[1]);
    let memory = &bench.memory;
    assert_eq!((memory.away().get(MINE[1]), memory.is_leaving(MINE[1])), (Some(bundle(MINE[1])), false));
    assert!(memory.is_elsewhere(MINE[1]) && memory.is_leaving(MINE[2]));
    assert_eq!((bench.memory.away().pages(), bench.memory.loose()), (1, 3));
}

#[test]
fn no_more_leave_than_may_or_are_taken() {
    for (most, show) in [(0, 64), (2, 64), (64, 2), (64, 0)] {
        let mut bench = bench();
        let count = show.min(most as usize);
        let (sent, frames) = send(&mut bench, ALL, most, show);
        assert_eq!((sent, frames.len()), (bits(&MINE[..count]), count), "{most} {show}");
        assert!(MINE[count..].iter().all(|&page| bench.mapping(page).is_some()));
        let of_tables = if count == 0 { 0 } else { 2 };
        assert_eq!((bench.memory.away().frames(), bench.memory.has_away()), (of_tables, count != 0));
    }
}

#[test]
fn while_some_are_on_their_way_no_others_leave() {
    let mut bench = bench();
    let (sent, _) = send(&mut bench, Pages { bits: bits(&MINE[..2]), ..ALL }, 64, 64);
    assert_eq!(sent, bits(&MINE[..2]));
    assert_eq!(send(&mut bench, ALL, 64, 64), (0, Vec::new()));
    assert_eq!(bench.memory.away().leaving(), Pages { first: ORDER, bits: sent });
    assert!(bench.mapping(MINE[2]).is_some());
}

#[test]
fn pages_that_stay_after_all_are_as_they_were_and_nothing_is_left_of_the_attempt() {
    let mut bench = bench();
    let (free, tables) = (bench.frames().free_frames(), bench.memory.counts());
    let (_, frames) = send(&mut bench, ALL, 64, 64);
    for (&page, &frame) in MINE.iter().zip(&frames) {
        assert_eq!(bench.memory.keep(&mut bench.machine.kernel.cpu.frames, page, frame), Ok(()));
        assert_eq!((bench.mapping(page), bench.memory.is_leaving(page)), (Some((frame, true)), false));
    }
    assert!(bench.memory.has_away());
    all_sent(&mut bench);
    assert!(!bench.memory.has_away());
    assert_eq!((bench.frames().free_frames(), bench.memory.counts(), bench.memory.loose()), (free, tables, 0));
}

#[test]
fn only_data_of_its_own_leaves() {
    let mut bench = Bench::new();
    bench.golden(DATA).expect("room");
    for page in [TEXT, PARTIAL] {
        assert!(bench.copy(page).is_ok());
    }
    // Below the image are pages that it shares with others.
    for page in [TEXT - 1, 1, DATA + 2] {
        bench.zero(page).expect("room");
    }
    let pages = Pages { first: 0, bits: !0 };
    assert_eq!(send(&mut bench, pages, 64, 64).0, 1 << PARTIAL | 1 << (DATA + 2));
}

#[test]
fn a_page_comes_back_to_its_place_and_the_last_one_frees_what_said_where_it_lay() {
    let mut bench = all_out();
    assert_eq!((bench.memory.away().pages(), bench.memory.away().frames()), (4, 2));
    for (page, left) in MINE.into_iter().zip((0..4).rev()) {
        let frames = &mut bench.machine.kernel.cpu.frames;
        let frame = bench.memory.take_for_away(frames).expect("free");
        assert_eq!(bench.memory.bring_back(frames, page, frame), Ok(Some(bundle(page))));
        assert_eq!((bench.mapping(page), bench.memory.away().pages()), (Some((frame, true)), left));
    }
    assert!(!bench.memory.has_away());
    // Whatever is not out comes from nowhere.
    let frames = &mut bench.machine.kernel.cpu.frames;
    let (free, frame) = (frames.free_frames(), bench.memory.take_for_away(frames).expect("free"));
    assert_eq!(bench.memory.bring_back(frames, MINE[0], frame), Ok(None));
    assert_eq!((frames.free_frames(), bench.memory.loose()), (free, 0));
}

#[test]
fn a_page_for_whose_table_no_frame_is_free_lies_there_still() {
    let mut bench = in_again(all_out());
    let frames = &mut bench.machine.kernel.cpu.frames;
    let frame = bench.memory.take_for_away(frames).expect("free");
    let hoard = bench.machine.hoard(0);
    let frames = &mut bench.machine.kernel.cpu.frames;
    assert_eq!(bench.memory.bring_back(frames, MINE[1], frame), Ok(None));
    assert_eq!((bench.memory.away().get(MINE[1]), bench.memory.away().pages()), (Some(bundle(MINE[1])), 4));
    assert_eq!((frames.free_frames(), bench.mapping(MINE[1])), (1, None), "its frame is free");
    // What is out counts for what it may hold, as before.
    let limit = bench.memory.claim().limit;
    bench.machine.unhoard(hoard);
    let frames = &mut bench.machine.kernel.cpu.frames;
    let frame = bench.memory.take_for_away(frames).expect("free");
    assert_eq!(bench.memory.bring_back(frames, MINE[1], frame), Ok(Some(bundle(MINE[1]))));
    assert_eq!((bench.mapping(MINE[1]), bench.memory.claim().limit), (Some((frame, true)), limit));
}

#[test]
fn a_page_is_lost_for_which_neither_a_table_nor_a_word_on_where_it_lies_has_a_frame() {
    let mut bench = bench();
    let (_, frames) = send(&mut bench, Pages { bits: bits(&MINE[..1]), ..ALL }, 64, 64);
    put_away(&mut bench, MINE[0], frames[0]);
    all_sent(&mut bench);
    let mut bench = in_again(bench);
    let (memory, frames) = bench.frames_of();
    let frame = memory.take_for_away(frames).expect("free");
    bench.machine.hoard(0);
    let (memory, frames) = bench.frames_of();
    // Directory and leaf are free then; two frames are too few for the tables, and the loose one too few for a directory and a leaf.
    assert_eq!(memory.bring_back(frames, MINE[0], frame), Err(bundle(MINE[0])));
    assert_eq!((bench.memory.away().pages(), bench.memory.loose(), bench.memory.has_away()), (0, 0, false));
    assert_eq!(bench.machine.kernel.cpu.frames.count_of(OwnerClass::VmMemory), 0);
}

#[test]
fn who_may_hold_no_more_gets_no_frame_for_a_page_that_is_out_beyond_its_place() {
    let mut bench = all_out();
    let claim = bench.memory.claim();
    let hoard = bench.machine.hoard(0);
    let (memory, frames) = bench.frames_of();
    assert_eq!(memory.take_for_away(frames), Err(PageError::NoFrame));
    assert_eq!(bench.memory.claim(), claim);
    bench.machine.unhoard(hoard);
}

#[test]
fn pages_of_the_image_are_mapped_in_a_row_unless_some_may_be_elsewhere() {
    let run = |bench: &mut Bench| {
        // Four pages of text.
        let parts = [(IMAGE_BASE, placed::TEXT, 4, &[0x90; 0x4000][..])];
        let frames = &mut bench.machine.kernel.cpu.frames;
        let image = Image::new(bench.image.entry, &placed::program(frames, IMAGE_BASE, &parts, Some(0))).expect("good");
        bench.memory.map_golden_run(frames, TEXT, 3, &image)
    };
    let mut bench = Bench::new();
    assert_eq!((run(&mut bench), bench.memory.counts().2), (Ok(3), 3));
    // A VM that ends with the last of them, and one that ends before.
    for (pages, mapped) in [(TEXT + 3, Ok(3)), (TEXT + 2, Err(PageError::NoSuchPage))] {
        let mut bench = Bench::of(pages);
        assert_eq!((run(&mut bench), bench.memory.counts().2), (mapped, mapped.unwrap_or(0)), "{pages} pages");
    }
    let mut bench = all_out();
    assert_eq!((run(&mut bench), bench.memory.counts().2), (Ok(1), 1));
}
