//! Two VMs that talk to each other.

use super::mechanism::{instructions, parse};
use super::{Bench, Entry, Figure, Repeats};
use crate::error::Result;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "vm_to_vm_round_trip",
    measures: "a request for 100 bytes and its answer, over an open TCP connection from one VM to another",
    repeats: Repeats::Exactly,
    run,
};

/// Requests that are measured; the first ones are not.
const REQUESTS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let inside = bench.inside()?;
    let running = bench.lab()?.boot("vms=httpd,ask").deterministic().system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "ask") {
            image.args = format!("{} round-trips={REQUESTS}", image.args);
        }
    });
    let running = running.start()?;
    let line = running.wait_for("ask: round trips of ", PATIENCE)?;
    let conditions = format!(
        "{inside}; ask and httpd, one request for /100b after the other; both VMs, netmux, core; from one answer to the next, \
         mean of {REQUESTS}"
    );
    Ok(vec![instructions(ENTRY.name, parse(&line, "ticks")?, conditions)])
}
