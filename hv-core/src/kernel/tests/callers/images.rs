//! Images that VMs send which control the machine.

use super::{Caller, FIRST, Fake, done, machine, with_caller};
use crate::kernel::Kernel;
use crate::kernel::tests::machine::{REFUSED, WITH_NIC, WITHOUT_NIC};
use crate::kernel::tests::roles::Role;
use crate::memory::{Owner, core_memory};
use abi::boot::{Segment, segment};
use abi::claim::RESERVE_LEAST;
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::IMAGE_BASE;
use abi::image::{BYTES, NewImage};
use abi::limits::{Name, PAGE_SHIFT, PAGE_SIZE};
use abi::manifest::{self, image_flags};
use abi::request_page::Piece;
use abi::service::Service;
use abi::vm::{ImageId, VmId};
use zerocopy::{FromZeros, IntoBytes};

/// The number of the first image that is sent: the machine has three.
const SENT: ImageId = ImageId::new(3);
/// Bytes of its segments: a page of text, a page and a half of data.
const PARTS: [u64; 2] = [0x1000, 0x1800];
/// First page of an image.
// A small number.
#[allow(clippy::cast_possible_truncation)]
const FIRST_PAGE: u32 = (IMAGE_BASE >> PAGE_SHIFT) as u32;

fn said(name: &str) -> NewImage {
    let mut image = NewImage::new_zeroed();
    image.entry = manifest::Image {
        name: Name::new(name).expect("short"),
        memory_bytes: 256 * PAGE_SIZE,
        rate: abi::share::UNLIMITED,
        burst: abi::share::BURST,
        weight: abi::share::WEIGHT,
        net: manifest::ANY,
        pager: manifest::ANY,
        reserve_frames: RESERVE_LEAST,
        limit_frames: 300,
        ..manifest::Image::new_zeroed()
    };
    image.program.entry = IMAGE_BASE + 0x10;
    image.program.segment_count = 3;
    let part = |address, flags, pages, bytes| Segment { address, flags, pages, bytes, ..Segment::default() };
    image.program.segments[0] = part(IMAGE_BASE, segment::EXECUTE, 1, PARTS[0]);
    image.program.segments[1] = part(IMAGE_BASE + 0x1000, segment::WRITE, 4, PARTS[1]);
    image.program.segments[2] = part(IMAGE_BASE + 0x5000, segment::HOLE, 1, 0);
    image.digest = [7; 32];
    image
}

/// What a page that is sent is filled with.
fn filling(page: u32) -> u8 {
    0x41_u8.wrapping_add(page.to_le_bytes()[0])
}

impl Caller {
    fn begin(&mut self, machine: &mut Fake, image: &NewImage) -> ControlReply {
        self.page.write(1000, image.as_bytes()).expect("in the page");
        let from = Piece { offset: 1000, len: u16::try_from(BYTES).expect("small") };
        self.ask(machine, ControlRequest::ImageBegin { from })[0]
    }

    fn page_of(&mut self, machine: &mut Fake, image: ImageId, page: u32, len: u16) -> ControlReply {
        self.page.write(0, &[filling(page); 4096]).expect("in the page");
        let from = Piece { offset: 0, len };
        self.ask(machine, ControlRequest::ImagePage { image, page, from })[0]
    }

    /// Sends a whole image.
    fn send(&mut self, machine: &mut Fake, image: &NewImage) -> ImageId {
        let ControlReply::Done { status: status::OK, value } = self.begin(machine, image) else { panic!("refused") };
        let id = ImageId::new(u32::try_from(value).expect("a number"));
        for (page, len) in (0..).zip([0x1000, 0x1000, 0x800]) {
            assert_eq!(self.page_of(machine, id, page, len), done(status::OK, 0), "page {page}");
        }
        assert_eq!(self.ask(machine, ControlRequest::ImageEnd { image: id }), [done(status::OK, 0)]);
        id
    }
}

/// Segments that the pager knows of an image.
fn segments(machine: &mut Fake, image: ImageId) -> usize {
    let rank = machine.rank(Service::Pager);
    match &machine.hardware.borrow().components[rank].role {
        Role::Pager(pager) => pager.segments.iter().filter(|(of, ..)| *of == image).count(),
        _ => panic!("not the pager"),
    }
}

#[test]
fn an_image_that_is_sent_runs_and_is_removed_with_its_last_vm() {
    let (mut machine, mut caller) = with_caller();
    let before = machine.frames_by_owner();
    assert_eq!(caller.send(&mut machine, &said("sent")), SENT);
    let names = caller.ask(&mut machine, ControlRequest::Image { image: SENT });
    assert!(matches!(names[..], [ControlReply::Image { name, .. }] if name.as_str() == "sent"), "{names:?}");
    assert_eq!(segments(&mut machine, SENT), 2, "a hole has nothing to give");
    let vm = machine.create(SENT);
    machine.rouse();
    machine.settle(4000);
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let golden = |page| cpu.images.get(SENT).expect("it is there").golden(page);
    for (page, filled) in [(0, 0x1000), (1, 0x1000), (2, 0x800)] {
        let frame = golden(FIRST_PAGE + page).expect("it was sent");
        assert_eq!(cpu.frames.owner_of(frame).0, Owner::Golden(SENT.number()));
        let mut bytes = [0xff; 0x1000];
        core_memory(frame, PAGE_SIZE).read(0, &mut bytes).expect("a page");
        let (sent, rest) = bytes.split_at(filled);
        assert!(sent.iter().all(|&byte| byte == filling(page)) && rest.iter().all(|&byte| byte == 0), "page {page}");
    }
    assert_eq!([FIRST_PAGE - 1, FIRST_PAGE + 3, FIRST_PAGE + 5, u32::MAX].map(golden), [None; 4]);
    assert_eq!(vms.of_image(SENT), 1);
    let to = Piece { offset: 8, len: u16::try_from(BYTES).expect("small") };
    assert_eq!(caller.ask(&mut machine, ControlRequest::ImageDetails { image: SENT, to }), [done(status::OK, 1)]);
    let mut told = NewImage::new_zeroed();
    caller.page.read(8, told.as_mut_bytes()).expect("in the page");
    assert_eq!(told, said("sent"));
    let remove = ControlRequest::ImageRemove { image: SENT };
    assert_eq!(caller.ask(&mut machine, remove), [done(status::IN_USE, 1)]);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Destroy { vm }), [done(status::OK, 0)]);
    assert_eq!(caller.ask(&mut machine, remove), [done(status::OK, 0)]);
    assert_eq!(caller.ask(&mut machine, remove), [done(status::NOT_FOUND, 0)]);
    assert_eq!((machine.frames_by_owner(), segments(&mut machine, SENT)), (before, 0));
    assert_eq!(caller.send(&mut machine, &said("another")), SENT, "its number is free again");
}

#[test]
fn what_came_with_the_machine_is_not_removed_and_tells_nothing() {
    let (mut machine, mut caller) = with_caller();
    for image in [WITH_NIC, WITHOUT_NIC, REFUSED, SENT, ImageId::new(u32::MAX)] {
        let to = Piece { offset: 0, len: 4096 };
        for request in [ControlRequest::ImageRemove { image }, ControlRequest::ImageDetails { image, to }] {
            assert_eq!(caller.ask(&mut machine, request), [done(status::NOT_FOUND, 0)], "{request:?}");
        }
    }
}

#[test]
fn lies_are_refused_and_nothing_has_changed() {
    let (mut machine, mut caller) = with_caller();
    let before = machine.frames_by_owner();
    let lies: [fn(&mut NewImage); 12] = [
        |image| image.entry.flags = image_flags::CONTROL,
        |image| image.entry.flags = image_flags::LAZY,
        |image| image.entry.memory_bytes = 0x1001 << 20,
        |image| image.entry.rx_slots = 3,
        |image| image.entry.reserve_frames = 301,
        |image| image.entry.weight = u16::MAX,
        |image| image.program.segments[0].flags = segment::WRITE | segment::EXECUTE,
        |image| image.program.segments[1].address = IMAGE_BASE,
        |image| image.program.segments[1].address = IMAGE_BASE - 0x1000,
        |image| image.program.segments[1].bytes = 0x4001,
        |image| image.program.entry = IMAGE_BASE + 0x1000,
        |image| image.program.segment_count = 9,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut image = said("sent");
        lie(&mut image);
        assert_eq!(caller.begin(&mut machine, &image), done(status::BAD_REQUEST, 0), "{number}");
    }
    for piece in [Piece::EMPTY, Piece { offset: 4000, len: 616 }, Piece { offset: 0, len: 617 }] {
        let begin = ControlRequest::ImageBegin { from: piece };
        assert_eq!(caller.ask(&mut machine, begin), [done(status::BAD_REQUEST, 0)]);
    }
    assert_eq!(caller.begin(&mut machine, &said("guest")), done(status::TAKEN, 0));
    assert_eq!(machine.frames_by_owner(), before);
}

#[test]
fn pages_come_in_order_and_whole() {
    let (mut machine, mut caller) = with_caller();
    assert_eq!(caller.page_of(&mut machine, SENT, 0, 0x1000), done(status::NOT_FOUND, 0), "nothing was begun");
    assert_eq!(caller.begin(&mut machine, &said("sent")), done(status::OK, 3));
    for (page, len) in [(1, 0x1000), (0, 0xfff), (u32::MAX, 0x1000)] {
        assert_eq!(caller.page_of(&mut machine, SENT, page, len), done(status::BAD_REQUEST, 0), "{page}");
    }
    let from = Piece { offset: 1, len: 0x1000 };
    let outside = ControlRequest::ImagePage { image: SENT, page: 0, from };
    assert_eq!(caller.ask(&mut machine, outside), [done(status::BAD_REQUEST, 0)]);
    let end = ControlRequest::ImageEnd { image: SENT };
    assert_eq!(caller.ask(&mut machine, end), [done(status::BAD_REQUEST, 0)]);
    assert!(machine.create_with(SENT, b"").is_err(), "it is not whole");
    for (page, len) in [(0, 0x1000), (1, 0x1000), (2, 0x800)] {
        assert_eq!(caller.page_of(&mut machine, SENT, page, len), done(status::OK, 0));
    }
    assert_eq!(caller.page_of(&mut machine, SENT, 3, 0), done(status::BAD_REQUEST, 0), "there are no more");
    assert_eq!(caller.ask(&mut machine, end), [done(status::OK, 0)]);
    assert_eq!(caller.ask(&mut machine, end), [done(status::NOT_FOUND, 0)]);
}

#[test]
fn what_was_begun_ends_with_its_sender_or_by_its_word() {
    let (mut machine, mut caller) = with_caller();
    let before = machine.frames_by_owner();
    let begun = |machine: &mut Fake, caller: &mut Caller| {
        assert_eq!(caller.begin(machine, &said("sent")), done(status::OK, 3));
        assert_eq!(caller.page_of(machine, SENT, 0, 0x1000), done(status::OK, 0));
        assert_ne!(machine.frames_by_owner(), before);
    };
    begun(&mut machine, &mut caller);
    assert_eq!(caller.ask(&mut machine, ControlRequest::ImageRemove { image: SENT }), [done(status::OK, 0)]);
    assert_eq!(machine.frames_by_owner(), before);
    begun(&mut machine, &mut caller);
    // Another one takes its place.
    begun(&mut machine, &mut caller);
    // Somebody else waits, and may not meddle.
    let second = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(4000);
    let mut other = Caller::new(&mut machine, second);
    assert_eq!(other.begin(&mut machine, &said("sent")), done(status::BUSY, 0));
    assert_eq!(other.page_of(&mut machine, SENT, 1, 0x1000), done(status::NOT_FOUND, 0));
    assert_eq!(other.ask(&mut machine, ControlRequest::ImageRemove { image: SENT }), [done(status::NOT_FOUND, 0)]);
    let golden = |machine: &Fake| machine.kernel.cpu.frames.count_of(crate::memory::OwnerClass::Golden);
    let all = golden(&machine);
    assert_eq!(other.ask(&mut machine, ControlRequest::Destroy { vm: FIRST }), [done(status::OK, 0)]);
    assert_eq!(all - golden(&machine), 2, "a page, and the list of them");
    assert_eq!(other.send(&mut machine, &said("sent")), SENT);
}

#[test]
fn an_image_takes_no_frame_that_is_kept_for_a_vm() {
    let (mut machine, mut caller) = with_caller();
    let kept = machine.kernel.cpu.frames.free_frames() - machine.kernel.cpu.frames.unreserved();
    let hoard = machine.hoard(kept + 3);
    assert_eq!(caller.begin(&mut machine, &said("sent")), done(status::NO_FRAMES, 3));
    machine.unhoard(hoard);
    assert_eq!(caller.begin(&mut machine, &said("sent")), done(status::OK, 3));
    assert_eq!(caller.page_of(&mut machine, SENT, 0, 0x1000), done(status::OK, 0));
    let hoard = machine.hoard(kept);
    assert_eq!(caller.page_of(&mut machine, SENT, 1, 0x1000), done(status::NO_FRAMES, 0));
    machine.unhoard(hoard);
    assert_eq!(caller.page_of(&mut machine, SENT, 1, 0x1000), done(status::OK, 0), "it goes on");
}

#[test]
fn there_are_as_many_images_as_can_be_and_a_pager_that_starts_hears_of_all() {
    let mut machine = machine();
    let vm: VmId = machine.create(WITHOUT_NIC);
    machine.settle(4000);
    let mut caller = Caller::new(&mut machine, vm);
    for number in 3..48 {
        assert_eq!(caller.send(&mut machine, &said(&format!("sent-{number}"))), ImageId::new(number));
    }
    assert_eq!(caller.begin(&mut machine, &said("more")), done(status::NO_SPACE, 48));
    assert_eq!(caller.ask(&mut machine, ControlRequest::ImageRemove { image: ImageId::new(9) }), [done(status::OK, 0)]);
    assert_eq!(caller.send(&mut machine, &said("more")), ImageId::new(9));
    // The ring of this machine's pager has not room for so many.
    for image in (13..48).map(ImageId::new) {
        assert_eq!(caller.ask(&mut machine, ControlRequest::ImageRemove { image }), [done(status::OK, 0)]);
    }
    let pager = u16::try_from(machine.rank(Service::Pager)).expect("few");
    caller.ask(&mut machine, ControlRequest::Kill { component: pager });
    machine.settle(20_000);
    assert!((3..13).all(|number| segments(&mut machine, ImageId::new(number)) == 2));
}
