//! Who gets in.

use super::*;

#[test]
fn somebody_logs_in_and_says_a_command() {
    for (strict, piece) in [(true, 1), (false, 7), (true, usize::MAX)] {
        let mut both = Both::new(strict);
        both.run_in(piece);
        assert_eq!((both.client.exchanges, both.heard()), (1, vec![EXT_INFO]), "{:?}", both.why());
        both.client.ask_to_log_in();
        both.client.ask_for_key("admin", &other_key());
        both.client.ask_for_key("admin", &key());
        both.client.log_in("admin", &key(), false);
        both.run_in(piece);
        let answers = [EXT_INFO, SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS];
        assert_eq!(both.heard(), answers);
        both.client.open(40, 1 << 20);
        both.client.request(0, "env", &Message(Vec::new()).string("LANG").string("C").0);
        both.client.request(0, "exec", &Message(Vec::new()).string("help").0);
        both.client.data(0, b"input");
        both.run_in(piece);
        let serve = Event::Serve(0, Wanted::Command("help".to_string()));
        assert_eq!(both.events[both.events.len() - 2..], [serve, Event::Changed(0)]);
        assert_eq!(both.read(0), Some(b"input".to_vec()));
        assert_eq!(both.read(0), Some(Vec::new()));
        assert_eq!(both.server.write(0, Stream::Output, b"yes"), Ok(3));
        assert_eq!(both.server.write(0, Stream::Error, b"no"), Ok(2));
        both.client.send(&Message::new(CHANNEL_EOF).number(0).0);
        both.run_in(piece);
        assert_eq!(
            (both.said(40, CHANNEL_DATA), both.said(40, CHANNEL_EXTENDED_DATA)),
            (b"yes".to_vec(), b"no".to_vec())
        );
        assert_eq!(both.read(0), None);
        both.server.finish(0, 7);
        both.run_in(piece);
        let status = Message::new(CHANNEL_REQUEST).number(40).string("exit-status").flag(false).number(7).0;
        assert!(both.client.heard.contains(&status));
        assert_eq!(both.heard()[both.heard().len() - 2..], [CHANNEL_EOF, CHANNEL_CLOSE]);
        assert_eq!(both.server.channels(), 1, "the client has not said that it has heard");
        both.client.send(&Message::new(CHANNEL_CLOSE).number(0).0);
        both.run_in(piece);
        assert_eq!((both.server.channels(), both.why()), (0, None));
    }
}

#[test]
fn nobody_else_logs_in() {
    let mut both = Both::keyed();
    both.client.log_in("root", &key(), false);
    both.client.log_in("admin", &other_key(), false);
    both.client.log_in("admin", &key(), true);
    both.client.send(&Message::new(USERAUTH_REQUEST).string("admin").string("ssh-connection").string("none").0);
    both.client.send(
        &Message::new(USERAUTH_REQUEST)
            .string("admin")
            .string("ssh-connection")
            .string("password")
            .flag(false)
            .string("x")
            .0,
    );
    both.run();
    assert_eq!(both.heard()[2..], [USERAUTH_FAILURE; 5]);
    assert_eq!((both.server.user(), both.why()), (None, None));
    assert_eq!(both.events.iter().filter(|event| **event == Event::Forged).count(), 1);
    for _ in 0..ATTEMPTS {
        both.client.ask_for_key("admin", &other_key());
    }
    both.run();
    assert_eq!(both.why(), Some("too many keys were tried"));
    assert_eq!(both.heard().iter().filter(|number| **number == USERAUTH_FAILURE).count(), 8, "six keys and two others");
    assert_eq!(both.heard().last(), Some(&DISCONNECT));
}

#[test]
fn whoever_tries_for_ever_is_let_go() {
    let mut both = Both::keyed();
    for _ in 0..100 {
        both.client.send(&Message::new(USERAUTH_REQUEST).string("admin").string("ssh-connection").string("none").0);
        both.run();
    }
    assert_eq!(both.why(), Some("too many keys were tried"));
    // One that may log in asks for ever, too.
    let mut both = Both::keyed();
    for _ in 0..100 {
        both.client.ask_for_key("admin", &key());
        both.run();
    }
    assert_eq!(both.why(), Some("too many keys were tried"));
}

#[test]
fn nothing_is_had_without_a_login() {
    for payload in [
        Message::new(CHANNEL_OPEN).string("session").number(0).number(9).number(9).0,
        Message::new(GLOBAL_REQUEST).string("x").flag(true).0,
        Message::new(CHANNEL_CLOSE).number(0).0,
    ] {
        let mut both = Both::keyed();
        both.client.send(&payload);
        both.run();
        assert_eq!(both.why(), Some("something was asked for before the login"));
    }
    let mut both = Both::new(true);
    both.run();
    both.client.log_in("admin", &key(), false);
    both.run();
    assert_eq!(both.why(), Some("a login that was not asked for"));
}
