//! Many operators who log in at once, while VMs serve.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::manifest::model::Image;
use crate::test::cases::supervisor::{Login, start_as};
use crate::test::lab::{Lab, Running, number};
use std::thread;
use std::time::{Duration, Instant};

pub const LOGINS: Entry = Entry {
    name: "logins_50_rate",
    measures: "what eight busy web servers answer while 50 operators log in at once, over what they answer when nobody does",
    repeats: Repeats::Within(0.05),
    run: logins,
};

/// Web servers, each of which is asked by a VM of its own.
const SERVERS: usize = 8;
/// Weight of each of these VMs: servers and clients together weigh as much as eight VMs of whom nobody says it.
const WEIGHT: u32 = 50;
/// Operators.
const OPERATORS: usize = 50;
/// Nanoseconds of the machine in which they answer while nobody logs in.
const ALONE: u64 = 500_000_000;
/// How long something may take on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the servers have sent, and when.
struct Sent {
    frames: u64,
    tsc: u64,
}

impl Sent {
    fn by(running: &Running) -> Result<Sent> {
        let lines = running.monitor("charges")?;
        let is_servers = |line: &&String| {
            let slot = number(line, "index");
            line.starts_with("charges ") && slot.is_some_and(|slot| slot % 2 == 1 && slot < 2 * SERVERS as u64)
        };
        let frames = lines.iter().filter(is_servers).map(|line| parse(line, "tx_frames")).sum::<Result<u64>>()?;
        let Some(account) = lines.iter().find(|line| line.starts_with("account ")) else { fail!("{lines:?}") };
        Ok(Sent { frames, tsc: parse(account, "tsc")? })
    }

    /// Frames in a million ticks since another time.
    // Both are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    fn rate_since(&self, before: &Sent) -> f64 {
        1e6 * (self.frames - before.frames) as f64 / (self.tsc - before.tsc) as f64
    }
}

/// All log in at once, and each says one command.
fn log_in(login: &Login) -> Result<()> {
    let failed: Vec<String> = thread::scope(|scope| {
        let one = || login.good("vm list --count").map(drop).map_err(|why| why.to_string());
        let all: Vec<_> = (0..OPERATORS).map(|_| scope.spawn(one)).collect();
        all.into_iter().filter_map(|one| one.join().unwrap_or_else(|_| Err("it panicked".into())).err()).collect()
    });
    match &failed[..] {
        [] => Ok(()),
        [first, ..] => fail!("{} of {OPERATORS} do not log in: {first}", failed.len()),
    }
}

fn logins(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = Lab::with(Kind::Qemu)?;
    // Each asks the VM before it.
    let pairs = ["server,asker"; SERVERS].join(",");
    let options = format!("vms=supervisor-vm,{pairs} net=10.0.2.16/24,gw=10.0.2.2");
    let (running, login) = start_as(&lab, &options, |boot| {
        boot.counted().system(|system| {
            let named = |name: &str| system.image.iter().find(|image| image.name == name).cloned();
            let (Some(httpd), Some(ask)) = (named("httpd"), named("ask")) else { return };
            let like = |name: &str, image: &Image, args: &str| Image {
                name: name.to_owned(),
                module: Some(image.name.clone()),
                args: args.to_owned(),
                weight: Some(WEIGHT),
                ports: Vec::new(),
                ready: None,
                ..image.clone()
            };
            let more = [like("server", &httpd, ""), like("asker", &ask, "times=1 round-trips=1000000000")];
            system.image.extend(more);
        })
    })?;
    // All ask.
    let end = Instant::now() + PATIENCE;
    let mut before = Sent::by(&running)?;
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = Sent::by(&running)?;
        if now.tsc > before.tsc + ALONE {
            if now.frames > before.frames {
                break;
            }
            before = now;
        }
        if Instant::now() > end {
            fail!("the servers are not asked");
        }
    }
    let (mut alone, mut among) = (Vec::new(), Vec::new());
    let mut took = 0;
    for _ in 0..3 {
        let before = Sent::by(&running)?;
        let mut now = Sent::by(&running)?;
        while now.tsc < before.tsc + ALONE {
            thread::sleep(Duration::from_millis(100));
            now = Sent::by(&running)?;
        }
        alone.push(now.rate_since(&before));
        let before = Sent::by(&running)?;
        log_in(&login)?;
        let now = Sent::by(&running)?;
        among.push(now.rate_since(&before));
        took = now.tsc - before.tsc;
    }
    running.power_off()?;
    alone.sort_by(f64::total_cmp);
    among.sort_by(f64::total_cmp);
    bench.note(format!(
        "{:<24} frames in a million ticks: {:.1} alone, {:.1} while they log in, which takes {} ms of the machine\n",
        "",
        alone[1],
        among[1],
        took / 1_000_000
    ));
    let conditions = format!(
        "QEMU, SVM, one CPU, icount shift=0,sleep=on, user-mode network; {SERVERS} httpd, each asked for /100b by a VM beside it over one connection as fast as it answers, so \
         that the processor is never idle; all {} of weight {WEIGHT}; frames that the servers send in the machine's time while {OPERATORS} OpenSSH clients log in at \
         once and say `vm list --count`, over those when nobody does; median of 3 rounds each",
        2 * SERVERS
    );
    let value = (1000.0 * among[1] / alone[1]).round() / 1000.0;
    Ok(vec![Figure { metric: LOGINS.name, value, unit: "ratio", conditions }])
}
