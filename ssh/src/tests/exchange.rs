//! Packets, and the exchange of keys.

use super::*;

#[test]
fn a_packet_that_was_changed_ends_it() {
    for at in [0, 4, 5, 20, 30] {
        let mut both = Both::within();
        both.client.send(&Message::new(IGNORE).string([0; 24]).0);
        both.client.output[at] ^= 1;
        both.client.send(&[0; 2048]);
        both.run();
        let why = both.why().expect("it ends");
        let changed = why == "a packet is not as it was sent";
        // Where its length was changed it may be one that none has.
        assert!(changed || (at < 4 && why.starts_with("a packet has ")), "{at}: {why}");
    }
}

#[test]
fn lengths_that_none_has() {
    for (head, why) in [
        (&[0, 0, 0x88, 0xbc, 4][..], "a packet has more than 35,000 bytes"),
        (&[255; 5], "a packet has more than 35,000 bytes"),
        (&[0, 0, 0, 4, 4], "a packet has a length that none has"),
        (&[0, 0, 0, 13, 4], "a packet has a length that none has"),
        (&[0, 0, 0, 0, 4], "a packet has a length that none has"),
        (&[0, 0, 0, 12, 12, 20], "a packet has nothing in it"),
        (&[0, 0, 0, 12, 11, 20], "a packet has nothing in it"),
        (&[0, 0, 0, 12, 3, 20], "a packet has nothing in it"),
    ] {
        let mut both = Both::new(true);
        both.client.output.extend(head);
        both.client.output.extend([0; 16]);
        let bytes = core::mem::take(&mut both.client.output);
        both.wire = bytes;
        let mut rest = &both.wire[..];
        while !rest.is_empty() && both.server.end().is_none() {
            rest = &rest[both.server.receive(rest, 0, &mut |_, _| true).0..];
        }
        assert_eq!(both.why(), Some(why), "{head:?}");
    }
    // One of the greatest length is taken.
    let mut both = Both::within();
    both.client.send(&Message::new(IGNORE).string(vec![0; 34_980]).0);
    both.run();
    assert_eq!(both.why(), None);
    both.client.send(&Message::new(IGNORE).string(vec![0; 34_996]).0);
    both.run();
    assert_eq!(both.why(), Some("a packet has more than 35,000 bytes"));
}

#[test]
fn half_a_packet_is_waited_for() {
    let mut both = Both::within();
    both.client.open(1, 100);
    let last = both.client.output.pop().expect("a packet");
    both.run();
    assert_eq!((both.server.channels(), both.why()), (0, None));
    both.client.output.push(last);
    both.run();
    assert_eq!(both.server.channels(), 1);
}

#[test]
fn other_names_than_those_of_clients() {
    for (name, good) in [
        (&b"SSH-2.0-x y\r\n"[..], true),
        (b"SSH-2.0-x\n", true),
        (b"SSH-1.99-x\r\n", false),
        (b"GET / HTTP/1.1\r\n", false),
        (b"SSH-2.0-\x07\r\n", false),
        (&[b'S'; 300], false),
        (b"\0", false),
    ] {
        let mut both = Both::new(true);
        let mut rest = name;
        while !rest.is_empty() && both.server.end().is_none() {
            rest = &rest[both.server.receive(rest, 0, &mut |_, _| true).0..];
        }
        assert_eq!(both.server.end().is_none(), good, "{name:?}");
    }
}

/// What a machine in the middle could put in or leave out unseen: [CVE-2023-48795](https://nvd.nist.gov/vuln/detail/CVE-2023-48795).
#[test]
fn nothing_else_is_said_during_the_first_exchange() {
    let ignored = Message::new(IGNORE).string("").0;
    // In front of the offer.
    let mut both = Both::new(true);
    both.client.send(&ignored);
    both.run();
    assert_eq!(both.why(), Some("something was sent before the first key exchange"));
    // Behind it.
    let mut both = Both::new(true);
    both.client.offer();
    both.client.send(&ignored);
    both.run();
    assert_eq!(both.why(), Some("something else was sent during the first key exchange"));
    // Before the client's new keys.
    let mut both = Both::new(true);
    both.client.offer();
    let bytes = core::mem::take(&mut both.client.output);
    both.wire = bytes;
    both.run();
    let mut late = Both::new(true);
    late.wire.append(&mut late.client.output);
    let hello = late.server.output().to_vec();
    late.server.sent(hello.len());
    late.client.hear(&hello);
    late.wire.append(&mut late.client.output);
    while !late.wire.is_empty() {
        let taken = late.server.receive(&late.wire, 0, &mut |_, _| true).0;
        late.wire.drain(..taken);
    }
    late.client.send(&ignored);
    late.run();
    assert_eq!(late.why(), Some("something else was sent during the first key exchange"));
    // Who does not know of that may.
    let mut both = Both::new(false);
    both.client.send(&ignored);
    both.client.offer();
    both.client.send(&ignored);
    both.run();
    assert_eq!((both.why(), both.client.exchanges), (None, 1));
    assert_eq!(both.server.end(), None);
}

#[test]
fn the_order_of_an_exchange_is_kept() {
    let exchange = "half of a key exchange that was not agreed on";
    for (payload, why) in [
        (Message::new(NEWKEYS).0, "new keys without an exchange"),
        (Message::new(ECDH_INIT).string([9; 32]).0, exchange),
        (Message::new(SERVICE_REQUEST).string("ssh-userauth").0, "something was sent before there are keys"),
        (Message::new(CHANNEL_DATA).number(0).string("").0, "something was sent before there are keys"),
        (Message::new(KEXINIT).0, "an offer of algorithms makes no sense"),
    ] {
        let mut both = Both::new(false);
        both.client.send(&payload);
        let bytes = core::mem::take(&mut both.client.output);
        both.wire = bytes;
        while !both.wire.is_empty() && both.server.end().is_none() {
            let taken = both.server.receive(&both.wire, 0, &mut |_, _| true).0;
            both.wire.drain(..taken);
        }
        assert_eq!(both.why(), Some(why));
    }
    let mut both = Both::within();
    both.client.offer();
    both.client.data(0, b"x");
    both.run();
    assert_eq!(both.why(), Some("something else was sent during a key exchange"));
}

#[test]
fn a_half_that_comes_to_nothing_is_refused() {
    for half in [&[0; 32][..], &[1; 31], &[]] {
        let mut both = Both::new(true);
        both.client.offer();
        both.client.send(&Message::new(ECDH_INIT).string(half).0);
        let bytes = core::mem::take(&mut both.client.output);
        both.wire = bytes;
        while !both.wire.is_empty() && both.server.end().is_none() {
            let taken = both.server.receive(&both.wire, 0, &mut |_, _| true).0;
            both.wire.drain(..taken);
        }
        assert_eq!(both.why(), Some("half of a key exchange is none"));
    }
}

/// Data goes both ways while the client, and the server, want new keys in the middle.
#[test]
fn keys_are_exchanged_in_the_middle_of_data() {
    for by_server in [false, true] {
        let mut both = Both::serving(1 << 24);
        let (mut written, mut read) = (Vec::new(), Vec::new());
        let mut typed = Vec::new();
        for round in 0..40_u8 {
            if round % 10 == 5 {
                if by_server {
                    both.now += 3601;
                } else {
                    both.client.offer();
                    // What the client has said before it wanted that is on its way.
                    both.run();
                }
            }
            both.client.data(0, &[round; 600]);
            typed.extend([round; 600]);
            both.wire.append(&mut both.client.output);
            // Written while the exchange goes on, where it waits.
            let bytes = [round; 900];
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let taken = both.server.write(0, Stream::Output, rest).expect("it is open");
                rest = &rest[taken..];
                both.run_in(100);
                read.extend(both.read(0).expect("it is open"));
            }
            written.extend(bytes);
        }
        both.run();
        read.extend(both.read(0).expect("it is open"));
        assert_eq!(both.why(), None);
        assert_eq!(both.client.exchanges, 5);
        assert_eq!(both.said(40, CHANNEL_DATA), written);
        assert_eq!(read, typed);
    }
}

/// While the server waits for the client's offer, it answers nothing but keeps what it has to say.
#[test]
fn answers_wait_for_new_keys() {
    let mut both = Both::within();
    both.now = 4000;
    for _ in 0..3 {
        both.client.send(&Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").flag(true).0);
    }
    both.run();
    assert_eq!((both.client.exchanges, both.heard()), (2, vec![REQUEST_FAILURE; 3]));
    // Not without an end.
    let mut both = Both::within();
    both.now = 4000;
    let mut admit = |_: &str, _: &[u8; 32]| true;
    for _ in 0..10_000 {
        both.client.send(&Message::new(CHANNEL_OPEN).string("x11").number(0).number(9).number(9).0);
        let bytes = core::mem::take(&mut both.client.output);
        both.server.receive(&bytes, both.now, &mut admit);
    }
    assert_eq!(both.why(), Some("too many requests during a key exchange"));
}
