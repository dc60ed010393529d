//! What VMs that control the machine ask the striper.

use super::super::machine::{WITH_NIC, WITHOUT_NIC};
use super::super::roles::Role as FakeRole;
use super::{Caller, FIRST, Fake, caller_of, controlled, done, with_caller};
use crate::component::Death;
use abi::attachment::Attachment;
use abi::claim::Claim;
use abi::control::{ControlReply, ControlRequest, status};
use abi::disk::{DiskReply, DiskRequest};
use abi::limits::Name;
use abi::manifest::image_flags;
use abi::message::Message;
use abi::request_page::Piece;
use abi::service::Service;
use abi::share::Share;
use abi::tenant::Tenant;
use zerocopy::IntoBytes;

/// A machine with a striper, and a caller in slot 0.
fn with_striper() -> (Fake, Caller) {
    caller_of(controlled(Fake::with_disks(4096)))
}

fn striper<T>(machine: &Fake, then: impl FnOnce(&mut super::super::roles::Disk) -> T) -> T {
    let rank = machine.rank(Service::Disk);
    match &mut machine.hardware.borrow_mut().components[rank].role {
        FakeRole::Disk(disk) => then(disk),
        _ => panic!("another one"),
    }
}

fn raw(caller: &mut Caller) -> Vec<Message> {
    core::iter::from_fn(|| caller.answers.pop().expect("the core does not lie")).collect()
}

fn question(index: u16) -> Message {
    DiskRequest::Entry { index }.into()
}

fn answer(id: u32, index: u16) -> Message {
    Message { id, ..DiskReply::DiskLoad { index, queue: 1, p50_us: 2, p99_us: 3 }.into() }
}

fn refusal(id: u32, why: u32) -> Message {
    Message { id, ..done(why, 0).into() }
}

#[test]
fn questions_go_to_the_striper_and_answers_to_whoever_has_asked() {
    let (mut machine, mut caller) = with_striper();
    caller.put(question(7));
    caller.ring(&mut machine);
    assert_eq!(raw(&mut caller), [answer(1, 7)]);
    caller.put(question(8));
    caller.ring(&mut machine);
    assert_eq!(raw(&mut caller), [answer(2, 8)]);
    assert_eq!(striper(&machine, |disk| disk.asked.len()), 2);
    // What is no question is none here, either.
    caller.put(Message::new(0x5ff, []));
    caller.put(Message::new(0x501, [1 << 16]));
    caller.ring(&mut machine);
    assert_eq!(raw(&mut caller), [refusal(3, status::BAD_REQUEST), refusal(4, status::BAD_REQUEST)]);
}

#[test]
fn a_vm_that_is_created_has_the_disk_that_was_named_for_it() {
    let (mut machine, mut caller) = with_striper();
    let docs = Attachment::parse("docs:ro").expect("a name");
    let at = caller.page.len() - abi::attachment::BYTES;
    caller.page.write(at, docs.as_bytes()).expect("in the page");
    let piece = |offset: usize, len: usize| Piece {
        offset: u16::try_from(offset).expect("few"),
        len: u16::try_from(len).expect("few"),
    };
    let order = |disk| ControlRequest::Create {
        image: WITH_NIC,
        slot: None,
        ipv4: 0x0a00_0211,
        args: Piece::EMPTY,
        share: Share::UNSAID,
        claim: Claim::UNSAID,
        tenant: Tenant::UNSAID,
        disk,
    };
    let answers = caller.ask(&mut machine, order(piece(at, abi::attachment::BYTES)));
    let [ControlReply::Done { status: status::OK, value }] = answers[..] else { panic!("{answers:?}") };
    machine.settle_again();
    let named = |disk: &mut super::super::roles::Disk| {
        disk.attached.iter().map(|(vm, (_, attachment, _))| (vm.raw(), *attachment)).collect::<Vec<_>>()
    };
    assert_eq!(striper(&machine, named), [(value, docs)]);
    // A part of a name is none.
    let answers = caller.ask(&mut machine, order(piece(at, abi::attachment::BYTES - 1)));
    assert_eq!(answers, [done(status::BAD_REQUEST, 0)]);
}

#[test]
fn without_disks_there_is_nobody_to_ask() {
    let (mut machine, mut caller) = with_caller();
    caller.put(question(0));
    caller.ring(&mut machine);
    assert_eq!(raw(&mut caller), [refusal(1, status::NO_DISKS)]);
}

#[test]
fn one_question_at_a_time_and_a_death_of_the_striper_is_told() {
    let (mut machine, mut caller) = with_striper();
    striper(&machine, |disk| disk.withholds = true);
    caller.put(question(1));
    caller.put(question(2));
    caller.ring(&mut machine);
    assert_eq!(raw(&mut caller), [refusal(2, status::BUSY)]);
    let rank = machine.rank(Service::Disk);
    striper(&machine, |disk| disk.withholds = false);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.rouse();
    machine.settle(20_000);
    assert_eq!(raw(&mut caller), [refusal(1, status::DISKS_LOST)]);
    // A predecessor's answer is for nobody.
    let disk = machine.kernel.cpu.endpoints.first(Service::Disk);
    assert_eq!(machine.kernel.disk_command(disk, &answer(1, 1)), Ok(()));
    assert_eq!(raw(&mut caller), []);
    caller.put(question(3));
    caller.ring(&mut machine);
    assert_eq!(raw(&mut caller), [answer(3, 3)]);
}

#[test]
fn who_has_ended_is_not_answered_and_keeps_no_place() {
    let (mut machine, mut caller) = with_striper();
    striper(&machine, |disk| disk.withholds = true);
    caller.put(question(1));
    caller.ring(&mut machine);
    let asked = striper(&machine, |disk| disk.asked[0]);
    assert!(machine.kernel.destroy(FIRST));
    machine.rouse();
    machine.settle(20_000);
    let vm = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(20_000);
    let mut next = Caller::new(&mut machine, vm);
    let disk = machine.kernel.cpu.endpoints.first(Service::Disk);
    assert_eq!(machine.kernel.disk_command(disk, &answer(asked, 1)), Ok(()));
    assert_eq!(raw(&mut next), [], "an answer to what its predecessor asked");
    striper(&machine, |disk| disk.withholds = false);
    next.put(question(2));
    next.ring(&mut machine);
    assert_eq!(raw(&mut next), [answer(1, 2)]);
}

/// Gives VMs of an image this virtual disk, and more rights.
fn of_image(machine: &mut Fake, image: abi::vm::ImageId, disk: &str, rights: u16) {
    let entry = &mut machine.kernel.cpu.images.get_mut(image).expect("it is there").entry;
    entry.disk = Attachment::parse(disk).unwrap_or(Attachment::NONE);
    entry.flags |= rights;
}

#[test]
fn what_controllers_keep_on_their_disk_no_other_gets() {
    let name = |name| Name::new(name).expect("short");
    let read = |of| DiskRequest::Read { name: name(of), block: 0, part: 0 };
    let copy = |of| DiskRequest::Snapshot { name: name(of), new: name("copy") };
    let remove = |of| DiskRequest::Remove { name: name(of) };
    let (mut machine, mut caller) = with_striper();
    let mut id = 0;
    let mut allowed = |machine: &mut Fake, caller: &mut Caller, request: DiskRequest| {
        id += 1;
        caller.put(request.into());
        caller.ring(machine);
        match raw(caller)[..] {
            [answer] if answer == refusal(id, status::NOT_ALLOWED) => false,
            [answer] if answer == Message { id, ..DiskReply::None.into() } => true,
            ref other => panic!("{other:?}"),
        }
    };
    // Its image controls the machine, and is not for reading.
    assert!(!allowed(&mut machine, &mut caller, read("docs")));
    assert!(allowed(&mut machine, &mut caller, copy("docs")));
    of_image(&mut machine, WITHOUT_NIC, "", image_flags::READS_DISKS);
    assert!(allowed(&mut machine, &mut caller, read("docs")));
    // The name alone is nothing: what counts is who has it by the manifest, and that it controls the machine.
    assert!(allowed(&mut machine, &mut caller, read("operator")));
    of_image(&mut machine, WITH_NIC, "operator", 0);
    assert!(allowed(&mut machine, &mut caller, read("operator")));
    of_image(&mut machine, WITH_NIC, "", 0);
    of_image(&mut machine, WITHOUT_NIC, "operator", 0);
    for request in [read("docs"), copy("docs"), remove("docs")] {
        assert!(allowed(&mut machine, &mut caller, request), "{request:?}");
    }
    for request in [read("operator"), copy("operator"), remove("operator")] {
        assert!(!allowed(&mut machine, &mut caller, request), "{request:?}");
    }
    assert_eq!(striper(&machine, |disk| disk.asked.len()), 7, "and nobody else has heard of it");
}

#[test]
fn what_controllers_are_given_elsewhere_is_kept_as_well() {
    let (mut machine, mut caller) = with_striper();
    let mut id = 0;
    let mut refused = |machine: &mut Fake, caller: &mut Caller, name: &str| {
        id += 1;
        let name = Name::new(name).expect("short");
        caller.put(DiskRequest::Snapshot { name, new: Name::new("copy").expect("short") }.into());
        caller.ring(machine);
        match raw(caller)[..] {
            [answer] => answer == refusal(id, status::NOT_ALLOWED),
            ref other => panic!("{other:?}"),
        }
    };
    // As boot or the operator's line would.
    let give = |machine: &mut Fake, image, disk: &str| {
        machine.next_disk = Attachment::parse(disk).expect("a disk");
        machine.create(image);
    };
    assert!(!refused(&mut machine, &mut caller, "mine"));
    give(&mut machine, WITH_NIC, "mine");
    assert!(!refused(&mut machine, &mut caller, "mine"), "it does not control the machine");
    give(&mut machine, WITHOUT_NIC, "mine");
    assert!(refused(&mut machine, &mut caller, "mine") && !refused(&mut machine, &mut caller, "docs"));
    // Where there were more than can be noted each is.
    for number in 0..8 {
        give(&mut machine, WITHOUT_NIC, &std::format!("d-{number}"));
    }
    assert!(refused(&mut machine, &mut caller, "docs"));
}

#[test]
fn what_controllers_keep_on_their_disk_no_other_vm_has() {
    let (mut machine, mut caller) = with_striper();
    of_image(&mut machine, WITHOUT_NIC, "operator", 0);
    let at = caller.page.len() - abi::attachment::BYTES;
    let create = |machine: &mut Fake, caller: &mut Caller, image, disk: Option<&str>| {
        let attachment = disk.and_then(Attachment::parse).unwrap_or(Attachment::NONE);
        caller.page.write(at, attachment.as_bytes()).expect("in the page");
        let len = if disk.is_some() { abi::attachment::BYTES } else { 0 };
        let piece = Piece { offset: u16::try_from(at).expect("few"), len: u16::try_from(len).expect("few") };
        let order = ControlRequest::Create {
            image,
            slot: None,
            ipv4: 0x0a00_0211,
            args: Piece::EMPTY,
            share: Share::UNSAID,
            claim: Claim::UNSAID,
            tenant: Tenant::UNSAID,
            disk: if disk.is_some() { piece } else { Piece::EMPTY },
        };
        match caller.ask(machine, order)[..] {
            [ControlReply::Done { status, .. }] => status,
            ref other => panic!("{other:?}"),
        }
    };
    for said in ["operator", "operator:ro"] {
        assert_eq!(create(&mut machine, &mut caller, WITH_NIC, Some(said)), status::NOT_ALLOWED, "{said}");
    }
    assert_eq!(machine.vms(), [FIRST], "and nothing has come of it");
    assert_eq!(create(&mut machine, &mut caller, WITH_NIC, Some("docs")), status::OK);
    // Another one of those who control the machine has it, by the manifest or by name.
    assert_eq!(create(&mut machine, &mut caller, WITHOUT_NIC, None), status::OK);
    assert_eq!(create(&mut machine, &mut caller, WITHOUT_NIC, Some("operator")), status::OK);
    // An image that was sent says what it likes.
    of_image(&mut machine, WITH_NIC, "operator:ro", 0);
    assert_eq!(create(&mut machine, &mut caller, WITH_NIC, None), status::NOT_ALLOWED);
    assert_eq!(create(&mut machine, &mut caller, WITH_NIC, Some("docs:ro")), status::OK);
}
