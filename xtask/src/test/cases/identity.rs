//! VMs that become somebody else while they serve.

use super::ensure;
use super::recovery::{VMS, more_requests, servers, under_load};
use crate::error::{Context, Result, fail};
use crate::http;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "identity: under load",
        asserts: "a web server that becomes somebody else twenty times under load drops its connections without a word and \
                  serves again",
        run: under,
    },
    Case {
        name: "identity: another address",
        asserts: "a web server that moves to another address is reached there, and not at the old one",
        run: moves,
    },
];

/// How often the identity changes.
const CHANGES: usize = 20;

/// Makes the VM in a slot somebody else, and waits until it has taken note.
fn change(running: &Running, slot: usize, args: &str) -> Result<()> {
    let mark = running.mark();
    running.monitor(&format!("identity {slot} {args}"))?;
    let line = format!("another identity: this is vm{slot}.1 now");
    running.wait_for_since(mark, &line, Duration::from_secs(20)).map(|_| ())
}

fn under(lab: &Lab) -> Result<()> {
    let mut running = servers(lab).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    under_load(&running, |served| {
        for round in 0..CHANGES {
            more_requests(served).context(|| format!("before change {round}"))?;
            change(&running, 0, "").context(|| format!("change {round}"))?;
        }
        more_requests(served)
    })?;
    running.must_not_say(0, "ended:")?;
    running.must_not_say(0, "panicked")?;
    without_a_word(&running)?;
    let vms = running.monitor("vms")?;
    let alive = vms.iter().filter(|line| line.contains("incarnation=1 image=httpd")).count();
    ensure(alive == VMS, || format!("{alive} of {VMS} VMs are left:\n{}", vms.join("\n")))?;
    running.power_off()
}

/// A connection with half of a request in it hears nothing when the server becomes somebody else: neither an end nor a reset.
/// Only when it says more it learns that nobody knows it.
fn without_a_word(running: &Running) -> Result<()> {
    let failed = || "a connection to the first server".to_owned();
    let mut stream = TcpStream::connect(running.services()[0]).context(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).context(failed)?;
    // One whole request, so that there is a connection for sure; then half of one.
    stream.write_all(b"HEAD /100b HTTP/1.1\r\nHost: x\r\n\r\n").context(failed)?;
    let mut bytes = [0; 1024];
    let len = stream.read(&mut bytes).context(failed)?;
    ensure(bytes[..len].starts_with(b"HTTP/1.1 200"), || format!("{:?}", String::from_utf8_lossy(&bytes)))?;
    stream.write_all(b"GET / HTTP/1.1\r\n").context(failed)?;
    std::thread::sleep(Duration::from_secs(1));
    stream.set_read_timeout(Some(Duration::from_secs(2))).context(failed)?;
    change(running, 0, "")?;
    match stream.read(&mut bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => fail!("the connection was not dropped without a word: {other:?}"),
    }
    stream.set_read_timeout(Some(Duration::from_secs(20))).context(failed)?;
    // That this is refused, now or when an answer is read, is what is asked for.
    let _ = stream.write_all(b"Host: x\r\n\r\n");
    match stream.read(&mut bytes) {
        Ok(0) => Ok(()),
        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        other => {
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            fail!("the server goes on with a connection of who it was: {other:?}: {answer}")
        }
    }
}

fn moves(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=httpd*2").start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    change(&running, 1, "addr=10.0.2.77")?;
    let mark = running.mark();
    running.monitor("create ask server=10.0.2.77:80 times=1")?;
    running.wait_for_since(mark, "ask: 10.0.2.77:80/100b: 200, 100 bytes", Duration::from_secs(40))?;
    let old = http::get(running.services()[1], "/100b", Duration::from_secs(3));
    ensure(old.is_err(), || "it is reached at its old address".into())?;
    // The other one is who it was; and to where it is nobody else moves.
    running.get(0, "/100b")?;
    let mark = running.mark();
    change(&running, 1, "addr=10.0.2.16")?;
    running.wait_for_since(mark, "another VM has the address 10.0.2.16 already", Duration::from_secs(20))?;
    running.get(0, "/100b")?;
    running.power_off()
}
