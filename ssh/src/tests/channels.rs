//! What those do who are in.

use super::*;

#[test]
fn no_more_is_written_than_the_client_takes() {
    let mut both = Both::serving(10);
    assert_eq!(both.server.write(0, Stream::Output, &[1; 100]), Ok(10));
    assert_eq!(both.server.write(0, Stream::Output, &[1; 100]), Ok(0));
    assert_eq!(both.server.write(0, Stream::Error, &[1; 100]), Ok(0));
    both.client.adjust(0, 5);
    both.run();
    assert_eq!(both.events, [Event::Changed(0)]);
    assert_eq!(both.server.write(0, Stream::Error, &[1; 100]), Ok(5));
    both.client.adjust(0, u32::MAX);
    both.client.adjust(0, 1);
    both.run();
    assert_eq!(both.why(), Some("a window is too large"));
}

#[test]
fn files_are_sent_by_a_subsystem_and_there_is_no_other_one() {
    let mut both = Both::within();
    both.client.open(40, 1000);
    both.client.request(0, "subsystem", &Message(Vec::new()).string("netconf").0);
    both.run();
    assert!(!both.events.iter().any(|event| matches!(event, Event::Serve(..))));
    assert_eq!(both.heard().last(), Some(&CHANNEL_FAILURE));
    both.client.request(0, "subsystem", &Message(Vec::new()).string("sftp").0);
    both.run();
    assert!(both.events.contains(&Event::Serve(0, Wanted::Sftp)));
    assert_eq!(both.heard().last(), Some(&CHANNEL_SUCCESS));
}

#[test]
fn no_more_comes_than_there_is_room_for() {
    let window = usize::try_from(WINDOW).expect("small");
    let mut both = Both::serving(10);
    both.client.data(0, &vec![1; window]);
    both.run();
    assert_eq!((both.why(), both.heard()), (None, vec![]), "none is granted while nobody reads");
    assert_eq!(both.read(0).map(|read| read.len()), Some(window));
    both.run();
    assert_eq!(both.heard(), [CHANNEL_WINDOW_ADJUST]);
    // What is read byte by byte is not granted byte by byte.
    both.client.data(0, &vec![1; window]);
    both.run();
    for _ in 0..window {
        assert_eq!(both.server.read(0, &mut [0]), Some(1));
    }
    both.run();
    assert_eq!(both.heard(), [CHANNEL_WINDOW_ADJUST; 3]);
    both.client.data(0, &vec![1; window]);
    both.client.data(0, &[1]);
    both.run();
    assert_eq!(both.why(), Some("more comes than there is room for"));
}

/// Whoever asks and does not take the answers is not read any more.
#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut both = Both::within();
    for _ in 0..4000 {
        both.client.send(&Message::new(GLOBAL_REQUEST).string("x").flag(true).0);
    }
    let mut rest = &both.client.output[..];
    loop {
        let (taken, _) = both.server.receive(rest, 0, &mut |_, _| true);
        if taken == 0 {
            break;
        }
        rest = &rest[taken..];
    }
    assert!(both.server.output().len() < crate::connection::WAITING + 100 && !rest.is_empty());
}

#[test]
fn two_channels_at_once() {
    let mut both = Both::serving(1000);
    both.client.open(41, 1000);
    both.client.request(1, "shell", &[]);
    both.client.data(1, b"second");
    both.client.data(0, b"first");
    both.run();
    assert_eq!(both.events, [Event::Serve(1, Wanted::Shell), Event::Changed(1), Event::Changed(0)]);
    assert_eq!((both.read(1), both.read(0)), (Some(b"second".to_vec()), Some(b"first".to_vec())));
    assert_eq!(both.server.write(1, Stream::Output, b"b"), Ok(1));
    assert_eq!(both.server.write(0, Stream::Output, b"a"), Ok(1));
    both.server.finish(0, 0);
    assert_eq!(both.server.write(0, Stream::Output, b"a"), Err(Gone));
    both.run();
    assert_eq!((both.said(40, CHANNEL_DATA), both.said(41, CHANNEL_DATA)), (b"a".to_vec(), b"b".to_vec()));
    // The second one has less room.
    both.client.data(1, &vec![0; usize::try_from(WINDOW_BESIDE).expect("small") + 1]);
    both.run();
    assert_eq!(both.why(), Some("more comes than there is room for"));
}

#[test]
fn channels_are_bounded_and_used_again() {
    let mut both = Both::within();
    for number in 0..u32::try_from(CHANNELS).expect("few") + 1 {
        both.client.open(number, 10);
    }
    both.run();
    let opened = both.heard();
    assert_eq!(opened.iter().filter(|number| **number == CHANNEL_OPEN_CONFIRMATION).count(), CHANNELS);
    assert_eq!(opened.last(), Some(&CHANNEL_OPEN_FAILURE));
    // One that nobody serves is closed at once; one that is served when that is done.
    both.client.request(1, "shell", &[]);
    both.client.send(&Message::new(CHANNEL_CLOSE).number(0).0);
    both.client.send(&Message::new(CHANNEL_CLOSE).number(1).0);
    both.run();
    assert_eq!(both.server.channels(), CHANNELS - 1);
    assert!(!both.server.is_open(1));
    assert_eq!(both.read(1), None);
    both.server.finish(1, 0);
    both.run();
    assert_eq!((both.server.channels(), both.why()), (CHANNELS - 2, None));
    assert_eq!(both.heard().iter().filter(|number| **number == CHANNEL_CLOSE).count(), 2);
    both.client.send(&Message::new(CHANNEL_CLOSE).number(1).0);
    both.run();
    assert_eq!(both.why(), Some("there is no such channel"));
}

#[test]
fn terminals_have_a_size_that_changes() {
    let pty = |columns: u32, rows: u32| {
        let sizes = [columns, rows, 0, 0].into_iter().fold(Message(Vec::new()).string("xterm\n"), Message::number);
        sizes.string([0]).0
    };
    let change =
        |columns: u32, rows: u32| [columns, rows, 0, 0].into_iter().fold(Message(Vec::new()), Message::number).0;
    let mut both = Both::within();
    both.client.open(40, 1000);
    both.client.request(0, "pty-req", &pty(132, 50));
    both.client.request(0, "shell", &[]);
    both.run();
    let size = Size { columns: 132, rows: 50 };
    assert_eq!(both.server.terminal(0), Some(&Terminal { kind: "xterm".to_string(), size }));
    both.client.request(0, "window-change", &change(0, 1 << 31));
    both.run();
    assert_eq!(both.server.size(0), Some(Size { columns: 80, rows: 1000 }));
    // None once it is served, and no second command.
    both.client.request(0, "pty-req", &pty(1, 1));
    both.client.request(0, "shell", &[]);
    both.client.request(0, "subsystem", &Message(Vec::new()).string("sftp").0);
    both.client.request(0, "x11-req", &[]);
    both.run();
    assert_eq!(both.heard()[both.heard().len() - 4..], [CHANNEL_FAILURE; 4]);
    both.client.data(0, b"vm li\x03st");
    both.run();
    assert!(both.server.take_interrupt(0) && !both.server.take_interrupt(0));
    assert_eq!(both.read(0), Some(b"st".to_vec()));
    both.client.request(0, "signal", &Message(Vec::new()).string("INT").0);
    both.client.request(0, "signal", &Message(Vec::new()).string("USR1").0);
    both.run();
    assert!(both.server.take_interrupt(0) && !both.server.take_interrupt(0));
    // Without a terminal Ctrl-C is a byte as others.
    both.client.open(41, 1000);
    both.client.request(1, "shell", &[]);
    both.client.request(1, "window-change", &change(1, 1));
    both.client.data(1, b"\x03");
    both.run();
    assert!(!both.server.take_interrupt(1) && both.server.size(1).is_none());
}

#[test]
fn what_is_not_there_is_refused() {
    let mut both = Both::within();
    both.client.send(
        &Message::new(CHANNEL_OPEN)
            .string("direct-tcpip")
            .number(4)
            .number(9)
            .number(9)
            .string("a")
            .number(1)
            .string("b")
            .number(2)
            .0,
    );
    both.client.send(&Message::new(CHANNEL_OPEN).string("x11").number(5).number(9).number(9).0);
    both.client.send(&Message::new(GLOBAL_REQUEST).string("tcpip-forward").flag(true).string("").number(0).0);
    both.client.send(&Message::new(GLOBAL_REQUEST).string("no-more-sessions@openssh.com").flag(false).0);
    both.client.open(6, 9);
    both.client.send(&[192]);
    both.client.send(&[DEBUG, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    both.run();
    let refused = [CHANNEL_OPEN_FAILURE, CHANNEL_OPEN_FAILURE, REQUEST_FAILURE, CHANNEL_OPEN_FAILURE, UNIMPLEMENTED];
    assert_eq!((both.heard(), both.why()), (refused.to_vec(), None));
    let mut both = Both::within();
    both.client.open(40, 1000);
    let long: String = "a".repeat(crate::requests::COMMAND + 1);
    both.client.request(0, "exec", &Message(Vec::new()).string(long).0);
    both.client.request(0, "exec", &Message(Vec::new()).string([255]).0);
    both.run();
    assert_eq!(both.heard(), [CHANNEL_OPEN_CONFIRMATION, CHANNEL_FAILURE, CHANNEL_FAILURE]);
    both.client.send(&[DISCONNECT, 0, 0, 0, 11]);
    both.run();
    assert_eq!(both.server.end(), Some(End::new(0, "the client has ended it")));
}

proptest! {
    /// Whatever is said, sealed as it should be, ends the connection or not: it does no harm.
    #[test]
    fn whatever_is_said_does_no_harm(payloads in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut both = Both::serving(1000);
        for (number, rest) in payloads {
            let mut payload = vec![number];
            payload.extend(rest);
            both.client.send(&payload);
            let bytes = core::mem::take(&mut both.client.output);
            both.wire = bytes;
            while !both.wire.is_empty() {
                let taken = both.server.receive(&both.wire, 0, &mut |_, _| false).0;
                if taken == 0 {
                    break;
                }
                both.wire.drain(..taken);
            }
            let waits = both.server.output().len();
            both.server.sent(waits);
        }
    }
}
