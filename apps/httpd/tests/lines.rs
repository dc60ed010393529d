//! Whatever a client says, others are served: nothing keeps the server from awaiting what comes next.

// It has more than is used here.
#[allow(dead_code)]
mod client;

use client::{Got, get, run_with};
use proptest::prelude::*;
use std::sync::mpsc;
use std::time::Duration;

/// How long the server may compute for a few requests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client gets that says `text`, and what one gets who asks for a document after it.
fn served(text: String) -> Vec<Got> {
    let (sender, results) = mpsc::channel();
    // A thread that computes for ever ends with the process.
    std::thread::spawn(move || {
        let plans = vec![vec![(0, text)], vec![(20, get("/100b"))]];
        // Who receives has given up, if nobody does.
        let _ = sender.send(run_with(100, plans, || {}));
    });
    results.recv_timeout(PATIENCE).expect("a server that goes on")
}

#[test]
fn a_line_of_more_than_three_words_is_answered() {
    for line in ["GET /a b HTTP/1.1", "GET /a  HTTP/1.0", "GET /a HTTP/1.2 HTTP/1.2"] {
        let got = served(format!("{line}\r\nHost: vm\r\n\r\n"));
        assert_eq!((got[0].codes(), got[1].codes()), (vec!["400".into()], vec!["200".into()]), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nearly_requests(text in "((GET|POST|HEAD|get|X)( |  )(/|\\*|http://a|/100b)[ -~]{0,4}( |  )(x |HTTP/1\\.3 )?HTTP/(1\\.[0-9]|[0-9]\\.[0-9])\r?\n((Host|Content-Length|Connection|Transfer-Encoding|Expect|Range): ?(a|5|close|chunked|100-continue|bytes=1-2|[ -~]{0,6})\r?\n){0,4}\r?\n?([0-9a-f]\r\n)?){1,3}") {
        let got = served(text);
        prop_assert_eq!(got[1].codes(), vec!["200".to_string()]);
    }
}
