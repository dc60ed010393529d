//! A machine with so many web servers that most of them are out, and clients on the host that ask them.

use crate::error::{Context, Result, fail};
use crate::http::Connection;
use crate::machine::{tap, vm_mac};
use crate::test::cases::pooled::mix;
use crate::test::lab::{Boot, Lab, Running, number};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The first VM's address, in a network with room for all, where the tap's host has one.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);
/// How many are asked at once.
pub const CLIENTS: usize = 16;
/// How long it may take on a slow host until all VMs are there, and until one answers.
const PATIENCE: Duration = Duration::from_secs(1200);
pub const ANSWER: Duration = Duration::from_secs(60);

/// A machine with so many web servers on the tap.
pub fn boot<'a>(lab: &'a Lab, vms: u32, megs: u32, options: &str) -> Boot<'a> {
    let options = format!("vms=httpd*{vms} slots={vms} net={FIRST}/8,gw=10.0.2.2 {options}");
    lab.boot(&options).megs(megs).tap(tap::DEVICE).system(|system| {
        // The addresses are reckoned here; nobody needs a list of all.
        system.image.iter_mut().for_each(|image| image.ports.clear());
    })
}

/// Waits until such a machine's last VM is there, which starts with the first packet for it.
pub fn is_there(running: &Running, vms: u32) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    running.wait_for("monitor: ready incarnation=", PATIENCE)?;
    while !is_out(running, vms - 1).unwrap_or(false) {
        if Instant::now() >= end {
            fail!("the last VM is not there after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Whether a VM has no seat.
pub fn is_out(running: &Running, slot: u32) -> Result<bool> {
    Ok(running.monitor(&format!("vm {slot}"))?.iter().any(|line| line.contains(" state=out ")))
}

/// How many VMs have a seat: each of them has a control structure and a context.
pub fn admitted(running: &Running) -> Result<u64> {
    let lines = running.monitor("frames")?;
    let metadata = lines.iter().find(|line| line.contains("owner=vm-metadata "));
    Ok(metadata.and_then(|line| number(line, "frames")).unwrap_or(0) / 2)
}

/// Where a VM's web server is.
pub fn address(slot: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(FIRST.to_bits() + slot), 80))
}

/// Tells the host where the VMs are: it has room for a thousand neighbours that it has to ask for, and any number of those that it was told of.
pub fn introduce(slots: impl Iterator<Item = u32>) -> Result<()> {
    let lines: String = slots
        .map(|slot| {
            let mac = vm_mac(slot).map(|byte| format!("{byte:02x}")).join(":");
            format!("neigh replace {} lladdr {mac} nud permanent dev {}\n", address(slot).ip(), tap::DEVICE)
        })
        .collect();
    let mut command = Command::new("ip");
    let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context(|| "cannot start ip".into())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).context(|| "cannot tell the host where VMs are".into())?;
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        other => fail!("the host was not told where VMs are: {other:?}"),
    }
}

/// Does `work` for each of these VMs, as many at once as there are clients. Why it failed for those for which it did.
pub fn each(slots: &[u32], work: impl Fn(u32) -> Result<()> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut failed = Vec::new();
        while let Some(&slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(slot) {
                failed.push(format!("VM {slot}: {error}"));
            }
        }
        failed
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_else(|_| vec!["a client fails".into()])).collect()
    })
}

/// So many VMs that nobody has named: each of `vms` at most once.
pub fn drawn(vms: u32, count: u32) -> Vec<u32> {
    let mut all: Vec<(u64, u32)> = (0..vms).map(|slot| (mix(u64::from(slot) + 1), slot)).collect();
    all.sort_unstable();
    all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    all.into_iter().map(|(_, slot)| slot).collect()
}

/// What only a VM can know: how many requests it was sent, and how many of them for documents that it does not have. Drawn for each VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Private {
    pub requests: u64,
    pub errors: u64,
}

impl Private {
    /// What the VM in a slot is asked at first.
    pub fn of(slot: u32) -> Private {
        let drawn = mix(u64::from(slot) << 20);
        let errors = drawn >> 2 & 3;
        Private { requests: 1 + (drawn & 3) + errors, errors }
    }

    /// Asks a VM for the first time, so that it gets to know this.
    pub fn give(slot: u32) -> Result<()> {
        let Private { requests, errors } = Private::of(slot);
        let mut connection = Connection::open(address(slot), ANSWER)?;
        for _ in 0..errors {
            let status = connection.request("GET", "/nothing")?.status;
            if status != 404 {
                fail!("it has what is not there: status {status}");
            }
        }
        for _ in errors + 1..requests {
            connection.request("GET", "/100b")?;
        }
        Private::of(slot).check(slot, &mut connection)
    }

    /// Asks a VM again, when it has answered `more` requests more. It has to know what it was given.
    pub fn ask(slot: u32, more: u64) -> Result<()> {
        let Private { requests, errors } = Private::of(slot);
        let mut connection = Connection::open(address(slot), ANSWER)?;
        Private { requests: requests + more, errors }.check(slot, &mut connection)
    }

    fn check(self, slot: u32, connection: &mut Connection) -> Result<()> {
        let answer = connection.request("GET", "/status.json")?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).context(|| "no status".into())?;
        let of = |key: &str| status.get(key).and_then(serde_json::Value::as_u64);
        let known = (of("vm"), of("requests"), of("errors"));
        if known != (Some(u64::from(slot)), Some(self.requests), Some(self.errors)) {
            fail!("it should know {self:?} and says {status}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn who_is_drawn_is_drawn_once_and_from_everywhere() {
        let slots = drawn(100_000, 1_000);
        let different: BTreeSet<u32> = slots.iter().copied().collect();
        assert!(different.len() == 1_000 && different.iter().all(|slot| *slot < 100_000));
        let half = slots.iter().filter(|slot| **slot < 50_000).count();
        assert!((400..600).contains(&half), "{half} of the first half");
    }

    #[test]
    fn what_vms_know_differs_and_is_worth_asking_for() {
        let all: Vec<Private> = (0..1_000).map(Private::of).collect();
        assert!(all.iter().all(|private| private.requests > private.errors && private.requests <= 7));
        let different: BTreeSet<(u64, u64)> = all.iter().map(|private| (private.requests, private.errors)).collect();
        assert_eq!(different.len(), 16);
    }

    #[test]
    fn addresses_go_on_beyond_a_byte() {
        assert_eq!(address(0).to_string(), "10.0.2.16:80");
        assert_eq!(address(240).to_string(), "10.0.3.0:80");
    }
}
