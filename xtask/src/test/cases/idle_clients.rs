//! What clients that say nothing take of a machine.

use super::ensure;
use super::web::{IDLE_FRAMES, OTHERS_GAIN, STEP, servers, shrunk, vm_frames};
use crate::error::Result;
use crate::http::Connection;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "web: idle clients",
    asserts: "a connection that stays and is idle takes its buffers and a page beside them, and all of it comes back when it ends",
    run: idle_clients,
}];

/// Frames that the first client takes more than each of the others: stack, ring, what has a place for each connection.
const FIRST: u64 = 12;
/// Frames of an idle connection, in quarters: 2,048 and 8,760 bytes of buffers, 1,024 that are kept for its next request, and some 2,300 for its socket, its
/// task, and what that remembers.
const QUARTERS: u64 = 15;
/// How long a server that has just answered may take to give back what it needs no more.
const RESTS: Duration = Duration::from_secs(6);

fn idle_clients(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, OTHERS_GAIN)?;
    running.wait_for_monitor()?;
    shrunk(&running, 1, "after the start")?;
    let mut clients: Vec<Connection> = Vec::new();
    for count in [1, 5, 10] {
        while clients.len() < count {
            clients.push(Connection::open(running.services()[0], STEP)?);
        }
        ask(&mut clients)?;
        let most = IDLE_FRAMES + FIRST + count as u64 * QUARTERS / 4;
        let frames = rested(&running, most)?;
        println!("{count} idle clients: {frames} frames");
        ensure(frames <= most, || format!("{frames} frames with {count} idle clients, which take {most} at most"))?;
        ensure(frames > IDLE_FRAMES, || format!("{frames} frames with {count} clients, as many as without any"))?;
    }
    ask(&mut clients)?;
    // It ends them when they have said nothing for too long.
    shrunk(&running, 1, "when its clients were idle for too long")?;
    ensure(clients.iter_mut().all(Connection::is_closed), || "a client is still connected".into())?;
    running.power_off()
}

fn ask(clients: &mut [Connection]) -> Result<()> {
    for client in clients {
        let answer = client.request("GET", "/100b")?;
        ensure(answer.body.len() == 100, || format!("{} bytes, with {}", answer.body.len(), answer.status))?;
    }
    Ok(())
}

/// The frames of the VM, when they are no more than `most`, or after a while.
fn rested(running: &Running, most: u64) -> Result<u64> {
    let end = Instant::now() + RESTS;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let frames = vm_frames(running)?;
        if frames <= most || Instant::now() >= end {
            return Ok(frames);
        }
    }
}
