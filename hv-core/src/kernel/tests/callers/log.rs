//! The machine's log, which controllers read.

use super::{Caller, Fake, done, with_caller};
use crate::log::keep_in_history;
use abi::control::{ControlReply, ControlRequest, status};
use abi::request_page::Piece;

/// What is read from a position on: the text, how many were missed, and the position behind it.
fn read(machine: &mut Fake, caller: &mut Caller, from: u64, to: Piece) -> (String, u64, u64) {
    match caller.ask(machine, ControlRequest::LogRead { from, to })[..] {
        [ControlReply::Log { next, missed, bytes }] => {
            let mut text = vec![0; usize::try_from(bytes).expect("small")];
            caller.page.read(usize::from(to.offset), &mut text).expect("in the page");
            (String::from_utf8(text).expect("ASCII"), missed, next)
        }
        ref other => panic!("{other:?}"),
    }
}

// The history is the program's: no other test keeps anything in it.
#[test]
fn the_log_is_read_by_position_and_what_was_lost_is_counted() {
    let (mut machine, mut caller) = with_caller();
    let to = Piece { offset: 100, len: 1000 };
    let (_, missed, began) = read(&mut machine, &mut caller, u64::MAX, to);
    assert_eq!(missed, 0);
    let text: String = (0..300).map(|line| format!("line {line:>4}\n")).collect();
    keep_in_history(text.as_bytes());
    let (mut all, mut from) = (String::new(), began);
    loop {
        let (text, missed, next) = read(&mut machine, &mut caller, from, to);
        assert_eq!((missed, next), (0, from + text.len() as u64));
        if text.is_empty() {
            break;
        }
        (all, from) = (all + &text, next);
    }
    assert_eq!(all, text);
    assert_eq!(read(&mut machine, &mut caller, began + 10, Piece { offset: 4095, len: 1 }).0, "l");
    // More than is kept.
    (0..7_000).for_each(|_| keep_in_history(b"0123456789"));
    let (text, missed, next) = read(&mut machine, &mut caller, from, to);
    assert_eq!((missed, next), (70_000 - 65_536, from + missed + 1000));
    assert_eq!(text, "4567890123".repeat(100));
    for wrong in [Piece { offset: 4000, len: 97 }, Piece { offset: 4097, len: 0 }, Piece { offset: 0, len: 0 }] {
        let refused = caller.ask(&mut machine, ControlRequest::LogRead { from: 0, to: wrong });
        assert_eq!(refused, [done(status::BAD_REQUEST, 0)]);
    }
    notes_of_vms_alone_count(&mut machine, &mut caller);
}

/// How much is written down, as who asks hears it.
fn noted(reply: &[ControlReply]) -> (u64, u64, u32) {
    match *reply {
        [ControlReply::Noted { end, until, vms }] => (end, until, vms),
        ref other => panic!("{other:?}"),
    }
}

fn notes_of_vms_alone_count(machine: &mut Fake, caller: &mut Caller) {
    let (end, until, vms) = noted(&caller.ask(machine, ControlRequest::Noted { until: 0 }));
    assert_eq!((until, vms), (0, 1));
    for (says, is) in [(end - 3, end - 3), (5, end - 3), (u64::MAX, end)] {
        let reply = caller.ask(machine, ControlRequest::Noted { until: says });
        assert_eq!(noted(&reply), (end, is, 1), "{says}");
    }
    keep_in_history(b"abcd");
    // A component asks, whatever it says.
    assert_eq!(noted(&machine.request(ControlRequest::Noted { until: u64::MAX })), (end + 4, end, 1));
    assert_eq!(machine.request(ControlRequest::Destroy { vm: super::FIRST }), [done(status::OK, 0)]);
    let reply = machine.request(ControlRequest::Noted { until: 0 });
    assert_eq!(noted(&reply), (end + 4, end, 0), "nobody is there any more who would");
}
