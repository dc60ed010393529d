//! The memory of one VM, page by page, with frames that run out.

use super::machine::Machine;
use super::placed::{self, Part};
use crate::memory::{CLASSES, Frames, Owner, OwnerClass, PhysAddr, Reservation, core_memory};
use crate::vm::{Image, Memory, PageError};
use abi::guest::IMAGE_BASE;
use abi::limits::{Name, PAGE_SIZE};
use abi::manifest;
use backend::fake::FakeBackend;
use backend::{Flush, Rights};

/// The slot of the VM whose memory this is; no VM of the machine's uses it.
pub const SLOT: abi::vm::Slot = abi::vm::Slot::new(9);
/// More than one table of the last level is for.
pub const PAGES: u32 = 600;
/// Pages of the image: text, data from the file, data of which half is from the file, and one that the file does not have.
pub const TEXT: u32 = 0x20;
pub const DATA: u32 = 0x21;
pub const PARTIAL: u32 = 0x22;
const BEYOND_FILE: u32 = 0x23;
const OWN: Owner = Owner::VmMemory(SLOT.number());
const TABLES: Owner = Owner::VmTables(SLOT.number());

/// What the image has at this byte of its file.
fn pattern(at: u64) -> u8 {
    u8::try_from(at % 251).expect("small")
}

/// An image like the machine's whose every byte can be told from its neighbours.
pub fn image(frames: &mut Frames, memory_bytes: u64, slots: u32) -> Image {
    let content: Vec<u8> = (0x2000..0x4800).map(pattern).collect();
    let (text, data) = content.split_at(0x1000);
    let parts: [Part<'_>; 2] = [(IMAGE_BASE, placed::TEXT, 1, text), (IMAGE_BASE + 0x1000, placed::DATA, 4, data)];
    let program = placed::program(frames, IMAGE_BASE + 0x10, &parts, Some(0));
    let name = Name::new("guest").expect("short");
    let args = [0; manifest::IMAGE_ARGS_BYTES];
    let entry = manifest::Image {
        name,
        module: name,
        memory_bytes,
        rx_slots: slots,
        tx_slots: slots,
        args,
        rate: abi::share::UNLIMITED,
        burst: abi::share::BURST,
        weight: abi::share::WEIGHT,
        net: manifest::ANY,
        pager: manifest::ANY,
        flags: 0,
        reserve_frames: abi::claim::RESERVE_LEAST,
        limit_frames: 300,
        tenant: 0,
        reserved: 0,
        disk: abi::attachment::Attachment::NONE,
        reserved2: 0,
    };
    Image::new(entry, &program).expect("good")
}

impl<const TIMER: bool> Machine<TIMER> {
    /// Take all free frames away but so many.
    pub fn hoard(&mut self, left: u64) -> Vec<PhysAddr> {
        let frames = &mut self.kernel.cpu.frames;
        let count = frames.free_frames().checked_sub(left).expect("as many as that");
        (0..count).map(|_| frames.alloc(Owner::Core, 0).expect("free")).collect()
    }

    /// Give them back.
    pub fn unhoard(&mut self, hoard: Vec<PhysAddr>) {
        for frame in hoard {
            self.kernel.cpu.frames.free(frame, Owner::Core);
        }
    }

    /// Frames by the class of their owner.
    pub fn frames_by_owner(&self) -> Vec<(OwnerClass, u64)> {
        CLASSES.map(|class| (class, self.kernel.cpu.frames.count_of(class))).to_vec()
    }
}

/// One VM's memory in a machine.
pub struct Bench {
    pub machine: Machine<true>,
    pub memory: Memory<FakeBackend<true>>,
    pub image: Image,
}

impl Bench {
    pub fn new() -> Self {
        Self::of(PAGES)
    }

    /// The same, of so many pages.
    pub fn of(pages: u32) -> Self {
        Self::within(pages, u32::MAX)
    }

    /// The same, which may hold so many frames.
    fn within(pages: u32, limit: u32) -> Self {
        let mut machine = Machine::new(1024);
        let cpu = &mut machine.kernel.cpu;
        let image = image(&mut cpu.frames, 0, 0);
        let reservation = Reservation::open(&mut cpu.frames, 0, limit).expect("nothing is kept");
        let memory = Memory::new(&cpu.backend, &mut cpu.frames, reservation, SLOT, pages, image.end).expect("room");
        Bench { machine, memory, image }
    }

    pub fn frames(&mut self) -> &mut Frames {
        &mut self.machine.kernel.cpu.frames
    }

    /// The memory, and the machine's frames.
    pub fn frames_of(&mut self) -> (&mut Memory<FakeBackend<true>>, &mut Frames) {
        (&mut self.memory, &mut self.machine.kernel.cpu.frames)
    }

    pub fn zero(&mut self, page: u32) -> Result<Option<PhysAddr>, PageError> {
        self.memory.map_zero(&mut self.machine.kernel.cpu.frames, page, &self.image)
    }

    pub fn golden(&mut self, page: u32) -> Result<(), PageError> {
        self.memory.map_golden(&mut self.machine.kernel.cpu.frames, page, &self.image)
    }

    pub fn copy(&mut self, page: u32) -> Result<Flush, PageError> {
        self.memory.copy_golden(&mut self.machine.kernel.cpu.frames, page, &self.image)
    }

    fn give_back(&mut self, page: u32) -> (bool, Flush) {
        self.memory.give_back(&mut self.machine.kernel.cpu.frames, page)
    }

    pub fn mapping(&mut self, page: u32) -> Option<(PhysAddr, bool)> {
        self.rights(page).map(|(frame, rights)| (frame, rights.write))
    }

    fn rights(&mut self, page: u32) -> Option<(PhysAddr, Rights)> {
        self.memory.mapping(&mut self.machine.kernel.cpu.frames, page)
    }

    /// The image's frame for a page.
    fn original(&self, page: u32) -> PhysAddr {
        self.image.golden(page).expect("the image has it")
    }

    /// What a guest finds at a page.
    fn content(&mut self, page: u32) -> Vec<u8> {
        let (frame, _) = self.mapping(page).expect("mapped");
        let mut bytes = vec![0xee; 4096];
        core_memory(frame, PAGE_SIZE).read(0, &mut bytes).expect("a page");
        bytes
    }

    /// Frames that the VM owns: memory and tables; and what the memory says of itself.
    fn owned(&self) -> ((u64, u64), (u32, u32, u32)) {
        let frames = &self.machine.kernel.cpu.frames;
        ((frames.count_of(OwnerClass::VmMemory), frames.count_of(OwnerClass::VmTables)), self.memory.counts())
    }
}

#[test]
fn new_memory_has_one_table_and_no_page() {
    let mut bench = Bench::new();
    assert_eq!((bench.memory.pages(), bench.owned()), (PAGES, ((0, 1), (0, 1, 0))));
    assert!((0..PAGES).all(|page| bench.mapping(page).is_none()));
    let frames = &mut bench.machine.kernel.cpu.frames;
    assert_eq!(bench.memory.frame(frames, 0), None);
}

#[test]
fn memory_is_not_made_without_a_frame_for_its_table() {
    let mut machine = Machine::<true>::new(1024);
    let hoard = machine.hoard(0);
    let cpu = &mut machine.kernel.cpu;
    let reservation = Reservation::open(&mut cpu.frames, 0, u32::MAX).expect("nothing is kept");
    assert!(Memory::new(&cpu.backend, &mut cpu.frames, reservation, SLOT, PAGES, 0).is_none());
    machine.unhoard(hoard);
    assert_eq!(machine.kernel.cpu.frames.count_of(OwnerClass::VmTables), 0);
}

#[test]
fn a_new_page_is_a_zeroed_frame_of_its_own_whatever_the_frame_held() {
    let mut bench = Bench::new();
    let frames = bench.frames();
    let used = frames.alloc(Owner::Core, 0).expect("free");
    frames.free(used, Owner::Core);
    assert_eq!(bench.zero(5), Ok(Some(used)));
    assert_eq!(bench.mapping(5), Some((used, true)));
    assert_eq!(bench.frames().owner_of(used), (OWN, 5));
    assert_eq!(bench.content(5), [0; 4096]);
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 0)));
    let frames = &mut bench.machine.kernel.cpu.frames;
    assert_eq!(bench.memory.frame(frames, 5), Some(used));
}

#[test]
fn a_page_that_is_there_is_not_replaced_by_a_zeroed_one() {
    let mut bench = Bench::new();
    let first = bench.zero(5).expect("room");
    let free = bench.frames().free_frames();
    assert_eq!(bench.zero(5), Ok(None));
    assert_eq!(bench.mapping(5), first.map(|frame| (frame, true)));
    assert_eq!((bench.owned(), bench.frames().free_frames()), (((1, 4), (1, 4, 0)), free));
    // Neither is one of the image's.
    assert_eq!(bench.golden(DATA), Ok(()));
    assert_eq!(bench.zero(DATA), Ok(None));
    assert_eq!(bench.mapping(DATA), Some((bench.original(DATA), false)));
    assert_eq!((bench.owned(), bench.frames().free_frames()), (((1, 4), (1, 4, 1)), free));
}

#[test]
fn no_page_is_given_beyond_the_memory() {
    // One page more than there is, of which the image has something.
    let mut bench = Bench::of(DATA);
    let before = bench.owned();
    assert_eq!(bench.zero(DATA), Err(PageError::NoSuchPage));
    assert_eq!(bench.golden(DATA), Err(PageError::NoSuchPage));
    assert_eq!(bench.copy(DATA), Err(PageError::NoSuchPage));
    assert_eq!(bench.zero(u32::MAX), Err(PageError::NoSuchPage));
    assert_eq!((bench.owned(), bench.mapping(DATA)), (before, None));
    assert!(matches!(bench.zero(DATA - 1), Ok(Some(_))));
}

#[test]
fn a_page_has_the_rights_that_its_image_gives_it_wherever_it_comes_from() {
    let mut bench = Bench::new();
    for page in [TEXT, DATA] {
        bench.golden(page).expect("room");
    }
    let rights = |bench: &mut Bench, page| bench.rights(page).expect("mapped").1;
    assert_eq!([TEXT, DATA].map(|page| rights(&mut bench, page)), [Rights::READ_EXECUTE, Rights::READ]);
    for page in [TEXT, DATA] {
        assert_eq!(bench.copy(page), Ok(Flush::Needed));
    }
    // Behind the file, behind the image, and before it.
    for page in [BEYOND_FILE, PAGES - 1, 5] {
        bench.zero(page).expect("room");
    }
    assert_eq!(rights(&mut bench, TEXT), Rights::READ_EXECUTE);
    for page in [DATA, BEYOND_FILE, PAGES - 1, 5] {
        assert_eq!(rights(&mut bench, page), Rights::READ_WRITE, "{page:#x}");
    }
}

#[test]
fn memory_is_plain_from_the_end_of_the_image_on() {
    let bench = Bench::new();
    // A page of text, and four of data.
    let pages = [0, TEXT, DATA, DATA + 3, DATA + 4, PAGES - 1, PAGES];
    assert_eq!(pages.map(|page| bench.memory.is_plain(page)), [false, false, false, false, true, true, true]);
}

#[test]
fn nothing_is_mapped_at_address_0() {
    let mut bench = Bench::new();
    let before = bench.owned();
    assert_eq!((bench.zero(0), bench.golden(0), bench.copy(0)), {
        let error = PageError::NoSuchPage;
        (Err(error), Err(error), Err(error))
    });
    assert_eq!((bench.owned(), bench.mapping(0)), (before, None));
}

#[test]
fn a_page_of_the_image_is_shared_and_not_writable() {
    let mut bench = Bench::new();
    let free = bench.frames().free_frames();
    for _ in 0..2 {
        assert_eq!(bench.golden(DATA), Ok(()));
        assert_eq!(bench.mapping(DATA), Some((bench.original(DATA), false)));
        assert_eq!(bench.owned(), ((0, 4), (0, 4, 1)));
    }
    let golden = bench.original(DATA);
    assert_eq!(bench.frames().owner_of(golden).0, Owner::Module);
    assert_eq!(bench.frames().free_frames(), free - 3);
}

#[test]
fn a_page_that_the_image_does_not_have_is_not_mapped_from_it() {
    let mut bench = Bench::new();
    for page in [TEXT - 1, BEYOND_FILE] {
        assert_eq!(bench.golden(page), Err(PageError::NoSuchPage));
        assert_eq!(bench.copy(page), Err(PageError::NoSuchPage));
        assert_eq!(bench.mapping(page), None);
    }
    assert_eq!(bench.owned(), ((0, 1), (0, 1, 0)));
}

#[test]
fn a_page_of_its_own_is_not_replaced_by_the_images() {
    let mut bench = Bench::new();
    let own = bench.zero(DATA).expect("room");
    assert_eq!(bench.golden(DATA), Ok(()));
    assert_eq!(bench.mapping(DATA), own.map(|frame| (frame, true)));
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 0)));
}

#[test]
fn a_copy_where_nothing_is_needs_no_flush_and_has_what_the_image_has() {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(DATA), Ok(Flush::Unneeded));
    let (frame, writable) = bench.mapping(DATA).expect("mapped");
    assert!(writable && frame != bench.original(DATA));
    assert_eq!(bench.frames().owner_of(frame), (OWN, DATA));
    assert_eq!(bench.content(DATA), (0x3000..0x4000).map(pattern).collect::<Vec<_>>());
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 0)));
}

#[test]
fn a_copy_over_the_images_page_needs_a_flush_and_shares_no_longer() {
    let mut bench = Bench::new();
    bench.golden(DATA).expect("room");
    bench.golden(PARTIAL).expect("room");
    assert_eq!(bench.copy(DATA), Ok(Flush::Needed));
    assert_eq!(
        bench.mapping(DATA).map(|(frame, writable)| (frame == bench.original(DATA), writable)),
        Some((false, true))
    );
    assert_eq!(bench.content(DATA), (0x3000..0x4000).map(pattern).collect::<Vec<_>>());
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 1)));
}

#[test]
fn a_copy_over_a_page_of_its_own_changes_nothing() {
    let mut bench = Bench::new();
    let own = bench.zero(DATA).expect("room").expect("new");
    core_memory(own, PAGE_SIZE).store64(8, 42).expect("a page");
    let free = bench.frames().free_frames();
    assert_eq!(bench.copy(DATA), Ok(Flush::Unneeded));
    assert_eq!(bench.mapping(DATA), Some((own, true)));
    assert_eq!((bench.content(DATA)[8], bench.frames().free_frames()), (42, free));
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 0)));
}

#[test]
fn the_last_page_of_the_image_ends_with_zeros() {
    let mut bench = Bench::new();
    let half: Vec<u8> = (0x4000..0x4800).map(pattern).chain([0; 2048]).collect();
    bench.golden(PARTIAL).expect("room");
    assert_eq!(bench.content(PARTIAL), half);
    assert_eq!(bench.copy(PARTIAL), Ok(Flush::Needed));
    assert_eq!(bench.content(PARTIAL), half);
    let golden = bench.original(PARTIAL);
    assert_eq!(bench.frames().owner_of(golden).0, Owner::Golden(0));
}

#[test]
fn without_a_frame_no_page_is_copied_and_the_images_stays() {
    let mut bench = Bench::new();
    bench.golden(DATA).expect("room");
    bench.machine.hoard(0);
    assert_eq!(bench.copy(DATA), Err(PageError::NoFrame));
    assert_eq!(bench.mapping(DATA), Some((bench.original(DATA), false)));
    assert_eq!(bench.owned(), ((0, 4), (0, 4, 1)));
}

/// With so few frames the page cannot be given, of which `own` are needed for the page itself: it is said, the page is not
/// there, and no frame is lost but to the tables that were begun.
fn runs_out(own: u64, give: impl Fn(&mut Bench) -> Result<(), PageError>) {
    for left in 0..own + 3 {
        let mut bench = Bench::new();
        bench.machine.hoard(left);
        assert_eq!(give(&mut bench), Err(PageError::NoFrame), "{left} frames");
        let tables = 1 + left.saturating_sub(own);
        assert_eq!(bench.mapping(DATA), None);
        let counted = u32::try_from(tables).expect("few");
        assert_eq!(bench.owned(), ((0, tables), (0, counted, 0)), "{left} frames");
        assert_eq!(bench.frames().free_frames(), left.min(own), "{left} frames");
    }
    let mut bench = Bench::new();
    bench.machine.hoard(own + 3);
    assert_eq!(give(&mut bench), Ok(()));
    assert_eq!((bench.owned().0, bench.frames().free_frames()), ((own, 4), 0));
}

#[test]
fn a_zeroed_page_that_cannot_be_mapped_leaves_no_frame_behind() {
    runs_out(1, |bench| bench.zero(DATA).map(|_| ()));
}

#[test]
fn a_shared_page_that_cannot_be_mapped_is_not_counted() {
    runs_out(0, |bench| bench.golden(DATA));
}

#[test]
fn a_copy_that_cannot_be_mapped_leaves_no_frame_behind() {
    runs_out(1, |bench| bench.copy(DATA).map(|_| ()));
}

#[test]
fn who_may_hold_no_more_is_told_so_and_not_that_no_frame_is_free() {
    // A page of its own needs a frame and three tables below the first one; one of the image's needs the tables.
    for limit in 1..5 {
        assert_eq!(Bench::within(PAGES, limit).zero(5), Err(PageError::Limit), "{limit} frames");
        assert_eq!(Bench::within(PAGES, limit).copy(DATA), Err(PageError::Limit), "{limit} frames");
    }
    for limit in 1..4 {
        assert_eq!(Bench::within(PAGES, limit).golden(DATA), Err(PageError::Limit), "{limit} frames");
    }
    assert!(matches!(Bench::within(PAGES, 5).zero(5), Ok(Some(_))));
    assert_eq!(Bench::within(PAGES, 4).golden(DATA), Ok(()));
}

#[test]
fn tables_that_were_begun_are_found_again() {
    let mut bench = Bench::new();
    let hoard = bench.machine.hoard(2);
    assert_eq!(bench.zero(5), Err(PageError::NoFrame));
    bench.machine.unhoard(hoard);
    assert!(matches!(bench.zero(5), Ok(Some(_))));
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 0)));
}

#[test]
fn a_page_of_its_own_that_is_given_back_is_free() {
    let mut bench = Bench::new();
    let own = bench.zero(5).expect("room").expect("new");
    let free = bench.frames().free_frames();
    assert_eq!(bench.give_back(5), (true, Flush::Needed));
    assert_eq!((bench.mapping(5), bench.frames().owner_of(own).0), (None, Owner::Free));
    assert_eq!((bench.owned(), bench.frames().free_frames()), (((0, 4), (0, 4, 0)), free + 1));
}

#[test]
fn a_shared_page_that_is_given_back_is_still_the_images() {
    let mut bench = Bench::new();
    bench.golden(DATA).expect("room");
    bench.golden(PARTIAL).expect("room");
    let free = bench.frames().free_frames();
    assert_eq!(bench.give_back(DATA), (false, Flush::Needed));
    let golden = bench.original(DATA);
    assert_eq!((bench.mapping(DATA), bench.frames().owner_of(golden).0), (None, Owner::Module));
    assert_eq!((bench.owned(), bench.frames().free_frames()), (((0, 4), (0, 4, 1)), free));
}

#[test]
fn nothing_is_given_back_where_nothing_is() {
    let mut bench = Bench::new();
    // Without a table, and with one.
    assert_eq!(bench.give_back(5), (false, Flush::Unneeded));
    bench.zero(5).expect("room");
    assert_eq!(bench.give_back(6), (false, Flush::Unneeded));
    assert_eq!(bench.owned(), ((1, 4), (1, 4, 0)));
    assert_eq!(bench.give_back(5), (true, Flush::Needed));
    assert_eq!(bench.give_back(5), (false, Flush::Unneeded));
    assert_eq!(bench.owned(), ((0, 4), (0, 4, 0)));
}

#[test]
fn a_released_memory_leaves_no_frame_behind_whatever_holes_it_has() {
    let mut bench = Bench::new();
    let free = bench.frames().free_frames() + 1;
    for page in [1, 3, 4, PAGES - 1] {
        bench.zero(page).expect("room");
    }
    bench.golden(DATA).expect("room");
    assert_eq!(bench.copy(PARTIAL), Ok(Flush::Unneeded));
    assert_eq!(bench.give_back(3), (true, Flush::Needed));
    assert_eq!(bench.owned(), ((4, 5), (4, 5, 1)));
    let Bench { mut machine, memory, image } = bench;
    let frames = &mut machine.kernel.cpu.frames;
    let _ = memory.release(frames);
    assert_eq!((frames.count_of(OwnerClass::VmMemory), frames.count_of(OwnerClass::VmTables)), (0, 0));
    assert_eq!(frames.free_frames(), free);
    for page in [DATA, PARTIAL] {
        let golden = image.golden(page).expect("the image has it");
        assert!(matches!(frames.owner_of(golden).0, Owner::Module | Owner::Golden(0)));
    }
}

#[test]
fn a_single_page_of_each_kind_is_released() {
    type Give = fn(&mut Bench) -> bool;
    let gives: [Give; 4] = [
        |_| true,
        |bench| bench.zero(1).is_ok(),
        |bench| bench.golden(DATA).is_ok(),
        |bench| bench.copy(PARTIAL).is_ok(),
    ];
    for give in gives {
        let mut bench = Bench::new();
        let free = bench.frames().free_frames() + 1;
        assert!(give(&mut bench));
        let Bench { mut machine, memory, .. } = bench;
        let _ = memory.release(&mut machine.kernel.cpu.frames);
        assert_eq!(machine.kernel.cpu.frames.free_frames(), free);
    }
}

#[test]
fn tables_belong_to_the_vm() {
    let mut bench = Bench::new();
    bench.zero(1).expect("room");
    let frames = bench.frames();
    let tables =
        (0..frames.len() as u64).filter(|&number| frames.owner_of(PhysAddr::from_frame(number)) == (TABLES, 0));
    assert_eq!(tables.count(), 4);
}

#[test]
fn the_core_sees_a_guests_page_as_the_guest_does() {
    use backend::GuestMemory;
    let mut bench = Bench::new();
    assert_eq!(bench.copy(DATA), Ok(Flush::Unneeded));
    let (frame, _) = bench.mapping(DATA).expect("mapped");
    let view = bench.memory.view(&mut bench.machine.kernel.cpu.frames);
    let page = view.page(u64::from(DATA) * PAGE_SIZE + 5).expect("mapped");
    assert_eq!(page.as_ptr().cast::<u8>(), frame.as_ptr());
    assert!(view.page(u64::from(DATA + 1) * PAGE_SIZE).is_none());
}
