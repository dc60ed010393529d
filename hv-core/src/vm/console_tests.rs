use super::*;
use crate::log::capture::{heard, listen};
use crate::vm::bench_test::Bench;
use abi::ring::HEAD;
use ring::Producer;

const HZ: u64 = 1_000_000_000;
const VM: VmId = VmId::new(3, 1);

/// A console, and the guest's end of its ring.
struct Line {
    console: Console,
    guest: Producer<SharedMemory>,
    page: SharedMemory,
    _bench: Bench,
}

impl Line {
    fn new() -> Self {
        let mut bench = Bench::new(16);
        let page = *bench.memory().1.memory();
        let header = page.sub(RING, HEADER_BYTES).expect("inside");
        let slots = page.sub(RING + HEADER_BYTES, CONSOLE_SLOTS as usize * SLOT_BYTES).expect("inside");
        let guest = Producer::attach(&header, &slots, CONSOLE_SLOTS).expect("a ring");
        listen();
        Line { console: Console::new(&page), guest, page, _bench: bench }
    }

    /// The guest writes a slot.
    fn slot(&mut self, len: u8, more: u8, text: &[u8]) {
        let mut slot = ConsoleSlot { len, more, text: [b'.'; CONSOLE_TEXT_BYTES] };
        slot.text[..text.len()].copy_from_slice(text);
        self.guest.stage_words(&zerocopy::transmute!(slot)).expect("room");
        self.guest.publish();
    }

    fn say(&mut self, text: &str) {
        self.slot(u8::try_from(text.len()).expect("short"), 0, text.as_bytes());
    }

    fn drained(&mut self, now: u64) -> Vec<String> {
        self.console.drain(VM, now, HZ, None);
        heard()
    }
}

#[test]
fn a_line_is_logged_with_the_vms_name() {
    let mut line = Line::new();
    line.say("hello");
    line.say("");
    assert_eq!(line.drained(HZ), ["guest: vm3.1: hello", "guest: vm3.1: "]);
    assert_eq!(line.drained(HZ), [""; 0]);
}

#[test]
fn the_slots_of_a_line_are_put_together() {
    let mut line = Line::new();
    line.slot(3, 1, b"one");
    line.slot(4, 1, b" and");
    line.slot(4, 0, b" two");
    line.say("three");
    assert_eq!(line.drained(HZ), ["guest: vm3.1: one and two", "guest: vm3.1: three"]);
}

#[test]
fn what_is_not_printable_is_shown_as_a_question_mark() {
    let mut line = Line::new();
    line.slot(9, 0, b" ~\x1f\x7f\n\0\xc3\xa4\xff");
    assert_eq!(line.drained(HZ), ["guest: vm3.1:  ~???????"]);
}

#[test]
fn a_slot_that_says_it_is_longer_than_it_is_ends_with_its_end() {
    let mut line = Line::new();
    line.slot(255, 0, b"");
    assert_eq!(line.drained(HZ), [format!("guest: vm3.1: {}", ".".repeat(62))]);
}

#[test]
fn a_long_line_is_cut_into_several() {
    let mut line = Line::new();
    for _ in 0..5 {
        line.slot(60, 1, b"");
    }
    line.slot(2, 0, b"ab");
    // Four slots are 240 bytes: as long as a line may be.
    let expected = [format!("guest: vm3.1: {}", ".".repeat(240)), format!("guest: vm3.1: {}ab", ".".repeat(60))];
    assert_eq!(line.drained(HZ), expected);
}

#[test]
fn a_line_without_an_end_is_logged_as_far_as_it_is_there() {
    let mut line = Line::new();
    line.slot(4, 1, b"half");
    assert_eq!(line.drained(HZ), ["guest: vm3.1: half"]);
}

#[test]
fn a_guest_gets_its_slots_back() {
    let mut line = Line::new();
    for round in 0..3 {
        for number in 0..CONSOLE_SLOTS {
            line.say(&format!("{round} {number}"));
        }
        let expected: Vec<_> = (0..CONSOLE_SLOTS).map(|number| format!("guest: vm3.1: {round} {number}")).collect();
        assert_eq!(line.drained(HZ), expected);
        assert_eq!(line.guest.in_flight(), Ok(0));
    }
}

#[test]
fn a_guest_that_writes_too_much_is_cut_off_and_that_is_said() {
    let mut line = Line::new();
    let mut said = 0;
    for _ in 0..8 {
        for _ in 0..CONSOLE_SLOTS {
            line.say("x");
        }
        said += line.drained(HZ).len();
    }
    // 128 lines at once, of which 100 are allowed.
    assert_eq!(said, 100);
    // A fiftieth of a second later there may be one more.
    line.say("y");
    line.say("z");
    let left_out = "guest: vm3.1: 28 lines left out: it writes too many";
    assert_eq!(line.drained(HZ + HZ / 50), [left_out, "guest: vm3.1: y"]);
    // The one that was too many is told of with the next.
    line.say("a");
    let left_out = "guest: vm3.1: 1 lines left out: it writes too many";
    assert_eq!(line.drained(HZ + HZ / 25), [left_out, "guest: vm3.1: a"]);
}

#[test]
fn a_ring_that_cannot_be_is_an_empty_one() {
    let mut line = Line::new();
    line.say("lost");
    let tail = line.page.load64(RING + TAIL).expect("inside");
    line.page.store64(RING + TAIL, tail + u64::from(CONSOLE_SLOTS)).expect("inside");
    assert_eq!(line.drained(HZ), [""; 0]);
    // Truth is believed again.
    line.page.store64(RING + TAIL, tail).expect("inside");
    assert_eq!(line.drained(HZ), ["guest: vm3.1: lost"]);
}

#[test]
fn a_full_ring_is_taken_whole_and_no_further() {
    let mut line = Line::new();
    let tail = line.page.load64(RING + TAIL).expect("inside");
    line.page.store64(RING + TAIL, tail + u64::from(CONSOLE_SLOTS)).expect("inside");
    assert_eq!(line.drained(HZ).len(), CONSOLE_SLOTS as usize);
    assert_eq!(line.drained(HZ), [""; 0]);
}

#[test]
fn a_guest_that_moves_its_rings_epoch_starts_it_again() {
    let mut line = Line::new();
    line.say("old");
    let epoch = line.page.load32(RING + EPOCH).expect("inside");
    line.page.store32(RING + EPOCH, epoch + 1).expect("inside");
    // Once it is a surprise, then the ring is empty.
    assert_eq!([line.drained(HZ).len(), line.drained(HZ).len()], [0, 0]);
    assert!(line.guest.check_epoch().is_err());
    line.say("new");
    assert_eq!(line.drained(HZ), ["guest: vm3.1: new"]);
}

impl Line {
    /// The guest's end of the input ring.
    fn reader(&self) -> Consumer<SharedMemory> {
        let bytes = HEADER_BYTES + CONSOLE_INPUT_SLOTS as usize * SLOT_BYTES;
        Consumer::attach_contiguous(&self.page.sub(INPUT, bytes).expect("inside"), CONSOLE_INPUT_SLOTS).expect("a ring")
    }
}

/// What the guest finds in its input ring: each piece, and whether its line goes on.
fn read(reader: &mut Consumer<SharedMemory>) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    while let Some(words) = reader.take_words().expect("the core does not lie") {
        let slot: ConsoleSlot = zerocopy::transmute!(words);
        let text = String::from_utf8_lossy(&slot.text[..usize::from(slot.len)]).into_owned();
        found.push((text, slot.more == 1));
    }
    reader.release();
    found
}

fn piece(text: &str, more: bool) -> (String, bool) {
    (text.to_owned(), more)
}

#[test]
fn what_is_typed_comes_in_pieces_of_lines() {
    let mut line = Line::new();
    let mut reader = line.reader();
    assert_eq!(line.console.type_in(&line.page, b"one\n\ntwo"), 8);
    assert_eq!(read(&mut reader), [piece("one", false), piece("", false), piece("two", true)]);
    assert_eq!(line.console.type_in(&line.page, b" and\n"), 5);
    assert_eq!(read(&mut reader), [piece(" and", false)]);
    for length in [61, 62, 63, 124, 125] {
        let text = "x".repeat(length) + "\n";
        assert_eq!(line.console.type_in(&line.page, text.as_bytes()), length + 1);
        let pieces = read(&mut reader);
        let (last, others) = pieces.split_last().expect("some");
        assert!(!last.1 && others.iter().all(|(_, more)| *more), "{pieces:?}");
        assert_eq!(pieces.iter().map(|(text, _)| text.as_str()).collect::<String>() + "\n", text);
    }
}

#[test]
fn a_full_input_ring_takes_no_more_until_the_guest_reads() {
    let mut line = Line::new();
    let mut reader = line.reader();
    let text: String = (0..12).map(|number| format!("line {number:02}\n")).collect();
    assert_eq!(line.console.type_in(&line.page, text.as_bytes()), 8 * 8);
    assert_eq!(line.console.type_in(&line.page, &text.as_bytes()[64..]), 0);
    assert_eq!(read(&mut reader).len(), 8);
    assert_eq!(line.console.type_in(&line.page, &text.as_bytes()[64..]), 32);
    assert_eq!(read(&mut reader).last(), Some(&piece("line 11", false)));
}

#[test]
fn a_guest_that_lies_about_its_input_ring_has_a_full_or_a_new_one() {
    let mut line = Line::new();
    let mut reader = line.reader();
    // It says that it has taken more than there ever was; and the index of the core is the core's own.
    line.page.store64(INPUT + HEAD, 77).expect("inside");
    line.page.store64(INPUT + TAIL, u64::MAX).expect("inside");
    for _ in 0..3 {
        assert_eq!(line.console.type_in(&line.page, b"a\n"), 0);
    }
    line.page.store64(INPUT + HEAD, 0).expect("inside");
    assert_eq!(line.console.type_in(&line.page, b"b\n"), 2);
    assert_eq!(line.page.load64(INPUT + TAIL), Some(1));
    assert_eq!(read(&mut reader), [piece("b", false)]);
    // Another epoch is a new ring.
    let epoch = line.page.load32(INPUT + EPOCH).expect("inside");
    line.page.store32(INPUT + EPOCH, epoch + 5).expect("inside");
    assert_eq!(line.console.type_in(&line.page, b"c\n"), 2);
    assert!(reader.check_epoch().is_err());
    assert_eq!(read(&mut reader), [piece("c", false)]);
}
