//! What a VM executes for each byte that it receives over TCP, and all others beside it.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::test::lab::Running;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "tcp_receive_per_byte",
    measures: "a byte that comes over TCP, for the VM that receives it; and for the sender, the demultiplexer and the core",
    // The operator asks at the host's time, in the middle of a document.
    repeats: Repeats::Within(0.03),
    run,
};

/// What is fetched again and again.
const PATH: &str = "/100k";
/// More than can be fetched while it is looked at.
const TIMES: u32 = 100_000;
/// Bytes between the two looks at least.
const BYTES: u64 = 32 << 20;
/// Slots of the server and of the receiver.
const SERVER: u32 = 0;
const RECEIVER: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(500);

// Ticks of seconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let running = bench.lab()?.boot("vms=httpd,ask").deterministic().system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "ask") {
            image.args = format!("{} path={PATH} times=1 round-trips={TIMES}", image.args);
        }
    });
    let running = running.start()?;
    running.wait_for(&format!("{PATH}: 200, "), PATIENCE)?;
    running.wait_for_monitor()?;
    let first = look_after(&running, 1)?;
    let last = look_after(&running, first.bytes + BYTES)?;
    running.power_off()?;
    let bytes = (last.bytes - first.bytes) as f64;
    let per_byte = |of: fn(&Looked) -> u64| ((of(&last) - of(&first)) as f64 / bytes * 100.0).round() / 100.0;
    bench.note(format!(
        "    a byte: the receiver {}, what is done on its behalf {}, the sender {}, what is done on its behalf {}, all but idle ticks {}\n",
        per_byte(|look| look.received),
        per_byte(|look| look.received_service),
        per_byte(|look| look.sent),
        per_byte(|look| look.sent_service),
        per_byte(|look| look.busy),
    ));
    let conditions = format!(
        "{inside}; ask fetches {PATH} from httpd in another VM again and again, over one connection; what the receiver runs and what the core and components do on its \
         behalf, over the bytes of frames that it was given (at least {BYTES})"
    );
    let value = per_byte(|look| look.received + look.received_service);
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "instructions/byte", conditions }])
}

/// What both VMs were charged with, and the machine's time without idle ticks.
struct Looked {
    /// Bytes of frames that the receiver was given.
    bytes: u64,
    received: u64,
    received_service: u64,
    sent: u64,
    sent_service: u64,
    busy: u64,
}

/// Looks as soon as the receiver was given so many bytes.
fn look_after(running: &Running, bytes: u64) -> Result<Looked> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let lines = running.monitor("charges")?;
        let looked = looked(&lines)?;
        if looked.bytes >= bytes {
            return Ok(looked);
        }
        if std::time::Instant::now() > end {
            fail!("only {} bytes have come: {lines:?}", looked.bytes);
        }
        std::thread::sleep(LOOK);
    }
}

fn looked(lines: &[String]) -> Result<Looked> {
    let line = |start: &str| match lines.iter().find(|line| line.contains(start)) {
        Some(line) => Ok(line),
        None => fail!("no `{start}` in {lines:?}"),
    };
    let of = |slot: u32| line(&format!("charges index={slot} "));
    let (sender, receiver, account) = (of(SERVER)?, of(RECEIVER)?, line("account tsc=")?);
    Ok(Looked {
        bytes: parse(receiver, "rx_bytes")?,
        received: parse(receiver, "ran_ticks")?,
        received_service: parse(receiver, "service_ticks")?,
        sent: parse(sender, "ran_ticks")?,
        sent_service: parse(sender, "service_ticks")?,
        busy: parse(account, "tsc")?.saturating_sub(parse(account, "idle_ticks")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_vms_and_the_machine_are_read() {
        let vm = |slot, ran| {
            format!(
                "charges index={slot} incarnation=1 ran_ticks={ran} service_ticks=7 rx_frames=1 rx_bytes={}",
                ran * 2
            )
        };
        let lines = [vm(0, 10), vm(1, 20), "account tsc=90 idle_ticks=40 guest_ticks=1".to_owned()];
        let looked = looked(&lines).unwrap();
        assert_eq!(
            (looked.bytes, looked.received, looked.received_service, looked.sent, looked.busy),
            (40, 20, 7, 10, 50)
        );
        assert!(super::looked(&lines[1..]).is_err() && super::looked(&lines[..2]).is_err());
    }
}
