//! Components that are killed at any time while VMs go out and come in: whoever was answered has been heard, once, by the VM that it asked.

use super::ensure;
use super::pooled::{self, ANSWER, SEATS, VMS, mix};
use crate::error::{Context, Result, fail};
use crate::http::Connection;
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const CASES: &[Case] = &[Case {
    name: "qemu: pooled, killed",
    asserts: "20 kills of each of swap, pager, sched and netmux at random, while VMs go out and come in, lose no VM, no connection and no request that was answered",
    run: some,
}];

/// Those that take long.
pub const LONG_CASES: &[Case] = &[Case {
    name: "qemu: pooled, killed a thousand times",
    asserts: "1,000 kills of each of swap, pager, sched and netmux at random, while VMs go out and come in, lose no VM, no connection and no request that was answered",
    run: thousand,
}];

const VICTIMS: [&str; 4] = ["swap", "pager", "sched", "netmux"];
/// From the start of one until the next is killed, at most.
const PAUSE_MS: u64 = 300;
/// How long a start may take on a busy host. One that has died often lately is started later.
const START: Duration = Duration::from_secs(60);
/// Clients. Each asks VMs that nobody else does, so it knows how often.
const CLIENTS: usize = 4;
/// A connection is used again within that time.
const KEPT: Duration = Duration::from_secs(6);
/// A server closes a connection on which it has heard nothing for 15 s, as it should: who sent it something then asks anew.
const PATIENCE: Duration = Duration::from_millis(14_500);
/// Requests that are sent on a connection that is there already, of ten.
const AGAIN: u64 = 5;

fn some(lab: &Lab) -> Result<()> {
    killed(lab, 20)
}

fn thousand(lab: &Lab) -> Result<()> {
    killed(lab, 1000)
}

/// Numbers that are drawn.
struct Dice(u64);

impl Dice {
    /// One below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % sides
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<(usize, &'a T)> {
        let at = usize::try_from(self.roll(list.len().max(1) as u64)).ok()?;
        Some((at, list.get(at)?))
    }
}

fn killed(lab: &Lab, kills: usize) -> Result<()> {
    let seed = lab.seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()));
    let lab = Lab::with(Kind::Qemu)?;
    let running = pooled::start(&lab)?;
    let over = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let (running, over) = (&running, &over);
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || ask(running, client, seed, over))).collect();
        let result = kill(running, kills, seed, over);
        over.store(true, Ordering::Relaxed);
        let asked = clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err("a client fails".into())));
        // What a client has noticed says more than what followed from it.
        let asked = asked.collect::<Result<Vec<usize>>>()?;
        result.map(|()| asked.into_iter().sum::<usize>())
    });
    let asked = asked.context(|| format!("--seed {seed} draws the same"))?;
    ensure(asked >= kills, || format!("{asked} requests were sent beside {kills} kills of each"))?;
    let (out, came_in) = (pooled::swap(&running, "gone_out")?, pooled::swap(&running, "come_in")?);
    ensure(came_in >= kills as u64 && out >= came_in, || format!("{out} went out and {came_in} came in"))?;
    ensure(pooled::swap(&running, "refused")? == 0 && pooled::swap(&running, "damaged")? == 0, || {
        "some were refused, or damaged".into()
    })?;
    for text in [" ended: ", "ERROR", "FATAL"] {
        running.must_not_say(0, text)?;
    }
    running.power_off()
}

/// Kills each so many times, in any order.
fn kill(running: &Running, kills: usize, seed: u64, over: &AtomicBool) -> Result<()> {
    let mut dice = Dice(mix(seed));
    let mut left: Vec<&str> = VICTIMS.iter().flat_map(|victim| std::iter::repeat_n(*victim, kills)).collect();
    while let Some((at, &victim)) = dice.pick(&left) {
        left.swap_remove(at);
        if over.load(Ordering::Relaxed) {
            fail!("{} kills are left", left.len());
        }
        let mark = running.mark();
        running.monitor(&format!("kill {victim}"))?;
        running.wait_for_since(mark, &format!("component {victim} restarted"), START)?;
        std::thread::sleep(Duration::from_millis(dice.roll(PAUSE_MS)));
    }
    Ok(())
}

/// A VM, as the client knows it that alone asks it.
struct Known {
    vm: usize,
    address: SocketAddr,
    answered: u64,
    connection: Option<(Connection, Instant)>,
}

/// A client: asks its VMs in any order until all is over. How many answers it got. It sets `over` when something is wrong.
fn ask(running: &Running, client: usize, seed: u64, over: &AtomicBool) -> Result<usize> {
    let mut dice = Dice(mix(seed ^ (client as u64 + 1) << 32));
    let mut mine: Vec<Known> = (client..VMS)
        .step_by(CLIENTS)
        .map(|vm| Known { vm, address: running.services()[vm], answered: 0, connection: None })
        .collect();
    let mut asked = 0;
    let end = |known: &mut Known, dice: &mut Dice| {
        let result = known.ask(dice).context(|| format!("VM {}", known.vm));
        over.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    };
    while !over.load(Ordering::Relaxed) {
        let Some((at, _)) = dice.pick(&mine) else { break };
        end(&mut mine[at], &mut dice)?;
        asked += 1;
    }
    // All are there, whatever was drawn.
    for known in &mut mine {
        end(known, &mut dice)?;
    }
    Ok(asked)
}

impl Known {
    /// Asks once, and looks whether this VM has heard all that it has answered, and nothing twice.
    fn ask(&mut self, dice: &mut Dice) -> Result<()> {
        let again = dice.roll(10) < AGAIN;
        let kept = self.connection.take().filter(|(_, since)| again && since.elapsed() < KEPT);
        let (mut connection, mut heard) = match kept {
            Some((connection, since)) => (connection, since),
            None => (Connection::open(self.address, ANSWER)?, Instant::now()),
        };
        let answer = loop {
            let result = connection.request("GET", "/status.json");
            match result {
                Ok(answer) => break answer,
                // Its request was lost with a netmux, and each time that it was sent again.
                Err(_) if heard.elapsed() > PATIENCE => {
                    heard = Instant::now();
                    connection = Connection::open(self.address, ANSWER)?;
                }
                Err(error) => fail!("{:?} after the last answer: {error}", heard.elapsed()),
            }
        };
        let requests = pooled::counted(self.vm, &answer)?;
        self.answered += 1;
        ensure(requests == self.answered, || format!("it has answered {} and counts {requests}", self.answered))?;
        self.connection = Some((connection, Instant::now()));
        Ok(())
    }
}

// Those that are asked do not all fit.
const _: () = assert!(VMS > 2 * SEATS);
