//! Consoles of VMs that controllers read and write.

use super::{Caller, FIRST, Fake, done, endpoint_of, machine, with_caller};
use crate::kernel::Kernel;
use crate::kernel::tests::guest::field;
use crate::kernel::tests::machine::{HZ, WITH_NIC, WITHOUT_NIC};
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::{
    CONSOLE_INPUT_RING, CONSOLE_INPUT_SLOTS, CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, ConsoleSlot, INPUT_BYTES,
    pending,
};
use abi::limits::{WATCH_BYTES, WATCH_SECONDS, WATCHES};
use abi::manifest::image_flags;
use abi::request_page::Piece;
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use abi::vm::VmId;
use ring::{Consumer, Producer, SharedMemory};

const TO: Piece = Piece { offset: 100, len: 2000 };

/// A machine with one that controls it and another VM of the same image, which has no NIC.
fn with_other() -> (Fake, Caller, VmId) {
    let (mut machine, caller) = with_caller();
    let other = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(20_000);
    (machine, caller, other)
}

fn page(machine: &mut Fake, vm: VmId) -> SharedMemory {
    *machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.body()).expect("it is in").registers.memory()
}

fn ring(page: &SharedMemory, at: u64, slots: u32) -> SharedMemory {
    let bytes = HEADER_BYTES + slots as usize * SLOT_BYTES;
    page.sub(usize::try_from(at).expect("small"), bytes).expect("inside")
}

/// The guest says these pieces of lines, one slot each, and kicks.
fn say(machine: &mut Fake, vm: VmId, pieces: &[(&str, bool)]) {
    let ring = ring(&page(machine, vm), CONSOLE_RING, CONSOLE_SLOTS);
    let mut guest = Producer::attach_contiguous(&ring, CONSOLE_SLOTS).expect("a ring");
    for (text, more) in pieces {
        let len = u8::try_from(text.len()).expect("short");
        let mut slot = ConsoleSlot { len, more: (*more).into(), text: [0; CONSOLE_TEXT_BYTES] };
        slot.text[..text.len()].copy_from_slice(text.as_bytes());
        guest.stage_words(&zerocopy::transmute!(slot)).expect("room");
    }
    guest.publish();
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.show_console(vms.by_id(vm).expect("it lives"));
    machine.rouse();
    machine.settle(20_000);
}

/// What is read from a position on: the text, how many were missed, and the position behind it.
fn read(machine: &mut Fake, caller: &mut Caller, vm: VmId, from: u64) -> (String, u64, u64) {
    match caller.ask(machine, ControlRequest::ConsoleRead { vm, from, to: TO })[..] {
        [ControlReply::Console { vm: of, next, missed, bytes }] => {
            assert_eq!(of, vm);
            let mut text = vec![0; usize::try_from(bytes).expect("small")];
            caller.page.read(usize::from(TO.offset), &mut text).expect("in the page");
            (String::from_utf8(text).expect("ASCII"), missed, next)
        }
        ref other => panic!("{other:?}"),
    }
}

fn write(machine: &mut Fake, caller: &mut Caller, vm: VmId, text: &[u8]) -> Vec<ControlReply> {
    caller.page.write(0, text).expect("in the page");
    let from = Piece { offset: 0, len: u16::try_from(text.len()).expect("short") };
    caller.ask(machine, ControlRequest::ConsoleWrite { vm, from })
}

#[test]
fn a_position_that_no_console_reaches_harms_nobody() {
    for from in [u64::MAX - 1, u64::MAX - 40, 1 << 63] {
        let (mut machine, mut caller, vm) = with_other();
        say(&mut machine, vm, &[("one", false)]);
        read(&mut machine, &mut caller, vm, from);
        say(&mut machine, vm, &[("two", false)]);
        read(&mut machine, &mut caller, vm, from);
        assert_eq!(read(&mut machine, &mut caller, vm, u64::MAX).0, "one\ntwo\n");
    }
}

#[test]
fn what_lies_in_the_ring_is_found_and_what_comes_later_is_kept_and_told_of_once() {
    let (mut machine, mut caller, vm) = with_other();
    say(&mut machine, vm, &[("one", false), ("tw\u{7}", true), ("o", false)]);
    let (text, missed, next) = read(&mut machine, &mut caller, vm, u64::MAX);
    assert_eq!((text.as_str(), missed), ("one\ntw?o\n", 0));
    assert_eq!(read(&mut machine, &mut caller, vm, next), (String::new(), 0, next));
    let told = |machine: &mut Fake| machine.word(FIRST, field!(pending)) & pending::WATCHED != 0;
    assert!(!told(&mut machine));
    say(&mut machine, vm, &[("> ", true)]);
    assert!(told(&mut machine));
    let page = page(&mut machine, FIRST);
    page.store64(core::mem::offset_of!(abi::guest::RegisterPage, pending), 0).expect("inside");
    say(&mut machine, vm, &[("more", false)]);
    assert!(!told(&mut machine), "nobody has asked since");
    let (text, _, next) = read(&mut machine, &mut caller, vm, next);
    assert_eq!(text, "> more\n");
    // What others say is nothing to those who watch this one.
    say(&mut machine, FIRST, &[("mine", false)]);
    assert!(!told(&mut machine));
    assert_eq!(read(&mut machine, &mut caller, vm, next).0, "");
    machine.audit();
}

#[test]
fn a_guest_that_says_too_much_loses_the_oldest_and_that_is_counted() {
    let (mut machine, mut caller, vm) = with_other();
    let (_, _, next) = read(&mut machine, &mut caller, vm, u64::MAX);
    let line = "x".repeat(61);
    for _ in 0..10 {
        say(&mut machine, vm, &[(line.as_str(), false); 16]);
    }
    let (text, missed, behind) = read(&mut machine, &mut caller, vm, next);
    assert_eq!((missed, text.len()), (10 * 16 * 62 - WATCH_BYTES, 2000));
    let (rest, missed, end) = read(&mut machine, &mut caller, vm, behind);
    assert_eq!((rest.len(), missed, end), (2000, 0, next + 9824));
    let (last, _, end) = read(&mut machine, &mut caller, vm, end);
    assert_eq!((text + &rest + &last).len() as u64, WATCH_BYTES);
    assert_eq!(end, next + 9920);
}

#[test]
fn the_slots_that_a_guest_left_for_who_comes_are_an_allegation() {
    let (mut machine, mut caller, vm) = with_other();
    say(&mut machine, vm, &[("a", false), ("b", false)]);
    let page = page(&mut machine, vm);
    let slots = usize::try_from(CONSOLE_RING).expect("small") + HEADER_BYTES;
    page.write(slots, &[255, 9, 0x1b, b'[']).expect("inside");
    let (text, ..) = read(&mut machine, &mut caller, vm, u64::MAX);
    assert!(text.starts_with("?[") && text.ends_with("b\n") && text.len() == CONSOLE_TEXT_BYTES + 2, "{text:?}");
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{text:?}");
}

#[test]
fn who_asks_no_more_watches_no_more_and_the_frame_is_free() {
    let (mut machine, mut caller, vm) = with_other();
    let before = machine.frames_by_owner();
    let (.., next) = read(&mut machine, &mut caller, vm, u64::MAX);
    assert_ne!(machine.frames_by_owner(), before);
    say(&mut machine, vm, &[("lost", false)]);
    machine.wires.spend((WATCH_SECONDS + 1) * HZ);
    // Whoever asks next about any console finds out.
    let (text, ..) = read(&mut machine, &mut caller, FIRST, u64::MAX);
    assert_eq!((text.as_str(), machine.kernel.cpu.watches.frames()), ("", 1));
    // He who comes back too late is told so.
    let (text, missed, _) = read(&mut machine, &mut caller, vm, next);
    assert_eq!((text.as_str(), missed), ("lost\n", 1));
    machine.wires.spend((WATCH_SECONDS + 1) * HZ);
    let nobody = VmId::new(40, 1);
    let answer = caller.ask(&mut machine, ControlRequest::ConsoleRead { vm: nobody, from: u64::MAX, to: TO });
    assert_eq!(answer, [done(status::NOT_FOUND, 0)]);
    assert_eq!(machine.frames_by_owner(), before);
    machine.audit();
}

#[test]
fn as_many_consoles_are_watched_as_can_be_and_one_without_a_page_is_refused() {
    let (mut machine, mut caller, vm) = with_other();
    for _ in 0..WATCHES {
        let other = machine.create(WITH_NIC);
        machine.rouse();
        machine.settle(20_000);
        read(&mut machine, &mut caller, other, u64::MAX);
    }
    let mut ask = |machine: &mut Fake, to| caller.ask(machine, ControlRequest::ConsoleRead { vm, from: 0, to });
    assert_eq!(ask(&mut machine, TO), [done(status::CONSOLES_TAKEN, WATCHES as u64)]);
    for to in [Piece { offset: 4096, len: 1 }, Piece { offset: 4000, len: 97 }, Piece::EMPTY] {
        assert_eq!(ask(&mut machine, to), [done(status::BAD_REQUEST, 0)]);
    }
}

#[test]
fn the_last_words_of_one_that_ends_are_read_and_then_it_is_gone() {
    let (mut machine, mut caller, vm) = with_other();
    let (.., next) = read(&mut machine, &mut caller, vm, u64::MAX);
    say(&mut machine, vm, &[("bye", false)]);
    assert_eq!(caller.ask(&mut machine, ControlRequest::Destroy { vm }), [done(status::OK, 0)]);
    let (text, _, next) = read(&mut machine, &mut caller, vm, next);
    assert_eq!(text, "bye\n");
    let gone = [done(status::NOT_FOUND, 0)];
    assert_eq!(caller.ask(&mut machine, ControlRequest::ConsoleRead { vm, from: next, to: TO }), gone);
    assert_eq!(write(&mut machine, &mut caller, vm, b"x\n"), gone);
}

#[test]
fn what_is_typed_wakes_a_guest_that_idles_and_a_full_ring_is_said() {
    let (mut machine, mut caller, vm) = with_other();
    let page = page(&mut machine, vm);
    let enabled = core::mem::offset_of!(abi::guest::RegisterPage, enabled);
    page.store64(enabled, pending::CONSOLE_INPUT).expect("inside");
    assert!(machine.kernel.vms.by_id(vm).expect("it lives").life.is_idle());
    caller.page.write(0, b"hello\n").expect("in the page");
    let asker = endpoint_of(&mut machine, FIRST);
    let taken = machine.kernel.write_console(asker, vm, Piece { offset: 0, len: 6 });
    assert_eq!(taken, done(status::OK, 6));
    assert!(machine.kernel.vms.by_id(vm).expect("it lives").life.is_ready(), "it was woken");
    // Guests here idle again at once, whatever is pending.
    page.store64(enabled, 0).expect("inside");
    machine.rouse();
    machine.settle(20_000);
    assert_ne!(machine.word(vm, field!(pending)) & pending::CONSOLE_INPUT, 0);
    let mut guest =
        Consumer::attach_contiguous(&ring(&page, CONSOLE_INPUT_RING, CONSOLE_INPUT_SLOTS), CONSOLE_INPUT_SLOTS)
            .expect("a ring");
    let slot: ConsoleSlot = zerocopy::transmute!(guest.take_words().expect("a ring").expect("something"));
    assert_eq!((&slot.text[..usize::from(slot.len)], slot.more), (&b"hello"[..], 0));
    guest.release();
    assert_eq!(write(&mut machine, &mut caller, vm, &[b'y'; INPUT_BYTES]), [done(status::OK, INPUT_BYTES as u64)]);
    assert_eq!(write(&mut machine, &mut caller, vm, b"z"), [done(status::OK, 0)]);
    assert_eq!(write(&mut machine, &mut caller, vm, &[b'y'; INPUT_BYTES + 1]), [done(status::TOO_LONG, 0)]);
    machine.audit();
}

#[test]
fn what_is_typed_calls_one_in_that_is_out() {
    let mut machine = machine();
    machine.kernel.cpu.images.get_mut(WITH_NIC).expect("it is there").entry.flags = image_flags::LAZY;
    machine.create(WITHOUT_NIC);
    machine.settle(4000);
    let mut caller = Caller::new(&mut machine, FIRST);
    let vm = machine.create(WITH_NIC);
    machine.settle(4000);
    assert!(machine.kernel.vms.out(vm).is_some());
    // It can be watched meanwhile.
    assert_eq!(read(&mut machine, &mut caller, vm, u64::MAX).0, "");
    assert_eq!(write(&mut machine, &mut caller, vm, b"x\n"), [done(status::OK, 0)]);
    machine.settle(20_000);
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.body().is_some()), "it came in");
    assert_ne!(machine.word(vm, field!(pending)) & pending::CONSOLE_INPUT, 0);
    assert_eq!(write(&mut machine, &mut caller, vm, b"x\n"), [done(status::OK, 2)]);
    machine.audit();
}
