//! Who controls the machine reads virtual disks, beside VMs that have them.

use super::*;
use abi::disk::{DiskReply, PART, read};

fn of_core(id: u32) -> Question {
    Question { id, of_core: true }
}

/// Reads a part of a block of a virtual disk, as who controls the machine does: how that went, and the bytes.
fn peek(lab: &mut Lab, name: &str, block: u64, part: u16) -> (u16, [u8; PART]) {
    let name = Name::new(name).expect("short");
    let reply = lab.service.begin_read(of_core(3), name, block, part).unwrap_or_else(|| {
        let replies = lab.settle();
        let [reply] = replies[..] else { panic!("{replies:?}") };
        assert_eq!(reply.id, 3);
        DiskReply::try_from(&reply).expect("an answer")
    });
    let DiskReply::Read { how, bytes } = reply else { panic!("{reply:?}") };
    (how, bytes)
}

#[test]
fn who_controls_the_machine_reads_what_no_vm_writes() {
    let mut lab = Lab::new();
    let whole = |lab: &mut Lab, block| {
        let mut all = Vec::new();
        for part in 0..86 {
            let (how, bytes) = peek(lab, "web", block, part);
            assert_eq!(how, read::DONE, "part {part}");
            all.extend(bytes);
        }
        assert_eq!(all.split_off(BLOCK_BYTES), [0; 86 * PART - BLOCK_BYTES]);
        all
    };
    for block in [0, 6, WEB - 1] {
        let there = content(block).unwrap_or([0; BLOCK_BYTES]);
        assert_eq!(whole(&mut lab, block), there, "block {block}");
    }
    // A part of another block than the one at hand is of that one.
    let different = content(6).expect("written");
    assert_eq!(peek(&mut lab, "web", 6, 3), (read::DONE, *different[3 * PART..].first_chunk().expect("long")));
    for (name, block, part, how) in [
        ("none", 0, 0, read::NO_SUCH_DISK),
        ("web", WEB, 0, read::OUTSIDE),
        ("web", u64::MAX, 0, read::OUTSIDE),
        ("web", 0, 86, read::OUTSIDE),
    ] {
        assert_eq!(peek(&mut lab, name, block, part), (how, [0; PART]), "{name} {block} {part}");
    }
    // The core alone knows who may.
    let web = Name::new("web").expect("short");
    assert_eq!(lab.service.begin_read(asked(1), web, 0, 0), Some(DiskReply::None));
    // Nobody waits behind one who reads.
    assert_eq!(lab.service.begin_read(of_core(1), web, 7, 0), None);
    let busy = DiskReply::Read { how: read::BUSY, bytes: [0; PART] };
    assert_eq!(lab.service.begin_read(of_core(2), web, 7, 0), Some(busy));
    assert_eq!(lab.settle().len(), 1);
    // Readers are no hindrance; who writes is, also for what is at hand.
    lab.attach(1, "web", mode::READ_ONLY, false);
    assert_eq!(whole(&mut lab, 6), different);
    lab.hear(DiskEvent::Detach { vm: vm(1), seat: Seat::new(1) });
    lab.attach(2, "web", mode::READ_WRITE, false);
    assert_eq!((peek(&mut lab, "web", 6, 0).0, peek(&mut lab, "web", 6, 1).0), (read::IN_USE, read::IN_USE));
    let mut own = lab.own(2);
    own.put(0, 0x5a);
    own.ask(1, DiskOrder::Write { block: 6, slot: 0 });
    lab.kick(2);
    lab.settle();
    lab.hear(DiskEvent::Detach { vm: vm(2), seat: Seat::new(2) });
    lab.settle();
    assert_eq!(peek(&mut lab, "web", 6, 1), (read::DONE, [0x5a; PART]), "not what was there before");
    // What the disks have lost is not made up.
    for platter in &lab.platters {
        let mut platter = platter.borrow_mut();
        platter.bad = (0..platter.blocks).collect();
    }
    let written = (400..).find(|&block| content(block).is_some()).expect("some");
    assert_eq!(peek(&mut lab, "web", written, 0).0, read::FAILED);
}
