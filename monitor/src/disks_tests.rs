use super::*;
use crate::session::Session;
use abi::disk::DiskRequest;
use abi::request_page::Piece;
use abi::vm::VmId;
use core::fmt::Arguments;
use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec::Vec;

/// A disk component with one disk, one broken set and one virtual disk, and the console's output.
#[derive(Default)]
struct Machine {
    asked: VecDeque<Message>,
    output: Vec<String>,
    refuses: Option<Asked>,
}

impl Host for Machine {
    fn send(&mut self, _: &Message) -> bool {
        panic!("the core is not asked")
    }

    fn write_page(&mut self, _: Piece, _: &[u8]) {}

    fn read_page(&mut self, _: Piece, _: &mut [u8]) {}

    fn ask_disks(&mut self, request: &Message) -> Asked {
        self.asked.push_back(*request);
        self.refuses.unwrap_or(Asked::Sent)
    }

    fn print(&mut self, line: Arguments<'_>) {
        self.output.push(line.to_string());
    }
}

const ID: [u8; 16] = [0x12, 0x34, 0x56, 0x78, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn answer(request: DiskRequest) -> DiskReply {
    match request {
        DiskRequest::Disk { index: 0 } => DiskReply::Disk {
            index: 0,
            driver: driver::VIRTIO,
            state: disk_state::MEMBER,
            member: 1,
            blocks: 100,
            set: ID,
            generation: 3,
            requests: 27,
            errors: 1,
        },
        DiskRequest::Disk { index: 1 } => DiskReply::Disk {
            index: 1,
            driver: driver::IDE,
            state: disk_state::BLANK,
            member: 0,
            blocks: 7,
            set: [0; 16],
            generation: 0,
            requests: 5,
            errors: 0,
        },
        DiskRequest::Set { index: 0 } => DiskReply::Set {
            index: 0,
            members: 2,
            state: set_state::BROKEN,
            name: name("lab"),
            id: ID,
            generation: 3,
            blocks: 160,
        },
        DiskRequest::Problem { set: 0, index: 0 } => {
            DiskReply::Problem { set: 0, index: 0, what: problem::MISSING, which: 0, first: 0, second: 0 }
        }
        DiskRequest::Problem { set: 0, index: 1 } => {
            DiskReply::Problem { set: 0, index: 1, what: problem::STALE, which: 1, first: 3, second: 5 }
        }
        DiskRequest::Entry { index } if index < 2 => DiskReply::Entry {
            index,
            kind: [entry_kind::SWAP, entry_kind::READ_ONLY][usize::from(index)],
            name: name(["swap", "web"][usize::from(index)]),
            first: 16,
            blocks: 64,
            beneath: if index == 1 { name("base") } else { Name::EMPTY },
        },
        DiskRequest::DiskLoad { index: 0 } => DiskReply::DiskLoad { index: 0, queue: 4, p50_us: 96, p99_us: 1024 },
        DiskRequest::VmLoad { index: 0..4 } => DiskReply::VmLoad {
            index: 3,
            vm: VmId::from_raw(0x2_0000_0007),
            disk: name("web"),
            requests: 10,
            errors: 1,
            queue: 2,
            p50_us: 128,
            p99_us: 3072,
        },
        DiskRequest::Scrub { index: 1 } => DiskReply::Scrubbed { index: 1, empty: 1, good: 60, bad: 3, first_bad: 9 },
        DiskRequest::Snapshot { name: of, new } => {
            // Each number is a reason.
            let why = core::str::from_utf8(&new.0).expect("text").trim_end_matches('\0').parse().unwrap_or(0);
            assert_eq!(of, name("web"));
            DiskReply::Snapped { why, needed: 700, free: 20 }
        }
        _ => DiskReply::None,
    }
}

/// What a command prints.
fn typed(line: &str) -> Vec<String> {
    let (mut session, mut machine) = (Session::new(4), Machine::default());
    session.line(line, &mut machine);
    while let Some(message) = machine.asked.pop_front() {
        assert!(session.busy() && machine.asked.is_empty(), "one question at a time");
        // What was not asked for says nothing.
        session.disk_reply(&Message { id: message.id + 1, ..Message::from(DiskReply::None) }, &mut machine);
        let reply = answer(DiskRequest::try_from(&message).expect("a question"));
        session.disk_reply(&Message { id: message.id, ..Message::from(reply) }, &mut machine);
    }
    assert!(!session.busy());
    machine.output
}

#[test]
fn all_that_there_is_is_listed() {
    assert_eq!(
        typed("disks"),
        [
            "disk index=0 driver=virtio-blk state=member blocks=100 set=12345678-0102-0304-0506-0708090a0b0c member=1 generation=3 requests=27 errors=1",
            "load disk=0 queue=4 p50_us=96 p99_us=1024",
            "disk index=1 driver=ide state=blank blocks=7 requests=5 errors=0",
            "set index=0 name=lab id=12345678-0102-0304-0506-0708090a0b0c members=2 state=broken generation=3 blocks=160",
            "problem set=0 what=missing member=0",
            "problem set=0 what=stale disk=1 generation=3 newest=5",
            "entry name=swap kind=swap blocks=64 first=16",
            "entry name=web kind=read-only blocks=64 first=16 beneath=base",
            "load index=7 incarnation=2 name=web requests=10 errors=1 queue=2 p50_us=128 p99_us=3072",
            "done disks",
        ]
    );
}

#[test]
fn a_virtual_disk_is_scrubbed_by_its_name() {
    assert_eq!(typed("scrub web"), ["scrubbed name=web empty=1 good=60 bad=3 first_bad=9", "done scrub"]);
    assert_eq!(typed("scrub log"), ["error scrub: no virtual disk log; \"disks\" lists them"]);
    assert_eq!(typed("scrub swap"), ["error scrub: swap is no virtual disk, or another one is being read; try again"]);
}

#[test]
fn a_snapshot_is_taken_or_refused_with_what_to_do() {
    assert_eq!(typed("disk snapshot web monday"), ["snapshot of=web name=monday", "done disk"]);
    assert_eq!(
        typed("disk snapshot web 9"),
        ["error disk: web needs 700 blocks of the set once more, and 20 are free; make a larger set"]
    );
    let lines: Vec<Vec<String>> = (1..13).map(|why| typed(&std::format!("disk snapshot web {why}"))).collect();
    assert!(lines.iter().all(|said| said.len() == 1 && said[0].starts_with("error disk: ")), "{lines:?}");
    // Each reason has words of its own.
    assert_eq!(lines.iter().collect::<std::collections::BTreeSet<_>>().len(), 12);
    let last = lines.last().map(|said| &said[0][..]);
    assert_eq!(
        last,
        Some("error disk: the disk component says what this program does not know; build both from one source")
    );
    let mut session = Session::new(4);
    let mut machine = Machine::default();
    session.line("disk snapshot web monday", &mut machine);
    assert!(session.waits_for_disks());
}

#[test]
fn nobody_there_no_room_nonsense_and_a_restart_are_told() {
    for (refuses, said) in [
        (Asked::Nobody, "error disks: the machine had no disk when it was started; connect one and start it again"),
        (Asked::Full, "error disks: the ring to the disk component is full; try again"),
    ] {
        let (mut session, mut machine) = (Session::new(4), Machine { refuses: Some(refuses), ..Machine::default() });
        session.line("disks", &mut machine);
        assert_eq!((machine.output.as_slice(), session.busy()), (&[said.to_string()][..], false));
    }
    let (mut session, mut machine) = (Session::new(4), Machine::default());
    session.line("disks", &mut machine);
    let id = machine.asked[0].id;
    session.disk_reply(&Message { id, ..Message::new(7, []) }, &mut machine);
    session.line("disks", &mut machine);
    session.disks_reset(&mut machine);
    session.line("disks", &mut machine);
    session.expired(&mut machine);
    session.disks_reset(&mut machine);
    let said: Vec<&str> = machine.output.iter().filter_map(|line| line.split(';').next()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("error disks: the disk component's answer is no answer"));
    assert_eq!(
        said[1..],
        ["error disks: the disk component was started anew", "error disks: the disk component does not answer"]
    );
}
