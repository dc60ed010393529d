//! `vm console`: the console of a VM. What it says is collected and shown as it comes, while lines are typed for it; with `--follow` nothing is read.

mod seat;

use self::seat::Seat;
use crate::act::console_of;
use crate::audit;
use crate::command::Command;
use crate::console_io::{self, Heard, PIECE};
use crate::editor::LINE;
use crate::input;
use crate::node::Node;
use crate::parse::parse;
use crate::peer::{FAILED, IDLE};
use crate::session::{Session, Stop};
use abi::guest::INPUT_BYTES;
use abi::vm::VmId;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use ilwaco::control::{news, news_since};
use ilwaco::sync::Notify;
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, Instant, sleep, timeout};
use ssh::Stream;

/// How often the core is asked even where it says that nothing came: so long before it takes nobody to be watching.
const LOOK: Duration = Duration::from_secs(1);
/// How long what came is collected before it is fetched: a VM that says much costs no more than so many looks a second.
const PAUSE: Duration = Duration::from_millis(50);
/// When a VM that took nothing of a line is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many times as long as it has to be quiet it may go on when the input has ended.
const NOISY: u32 = 10;
/// Bytes that are collected while a client takes nothing; the oldest make room.
const KEPT: usize = 16 * 1024;

/// What a line asks for.
pub struct Asked {
    vm: String,
    follow: bool,
    limit: Option<Duration>,
}

/// What a line asks for, when that is a console and nothing else.
pub fn asked(line: &str) -> Option<Asked> {
    match &parse(line).ok()?[..] {
        [(_, Command::VmConsole { vm, follow, seconds })] => Some(Asked {
            vm: vm.clone(),
            follow: *follow,
            limit: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }),
        _ => None,
    }
}

/// Some of what a console has said, and how many bytes before it are lost.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    missed: u64,
    text: Vec<u8>,
}

/// What was collected and not shown.
#[derive(Debug, Default)]
struct Collected(VecDeque<Said>);

impl Collected {
    fn add(&mut self, said: Said) {
        match self.0.back_mut() {
            Some(last) if said.missed == 0 && last.text.len() + said.text.len() <= usize::from(PIECE.len) => {
                last.text.extend(said.text);
            }
            _ => self.0.push_back(said),
        }
        while self.0.len() > KEPT / usize::from(PIECE.len) {
            let Some(old) = self.0.pop_front() else { break };
            if let Some(next) = self.0.front_mut() {
                next.missed += old.missed + old.text.len() as u64;
            }
        }
    }
}

/// A console that somebody is at.
struct Console<'n> {
    node: &'n Node,
    vm: &'n str,
    id: VmId,
    /// How far it was fetched.
    next: Cell<u64>,
    collected: RefCell<Collected>,
    /// Why nothing more comes.
    over: RefCell<Option<String>>,
    came: Notify,
    /// Whether the VM is offered something, and that this was done.
    asks: Cell<bool>,
    asked: Notify,
    left: Cell<bool>,
}

/// Connects a client with the console of a VM until one of them ends, or the client has enough. The status.
///
/// # Errors
///
/// [`Stop`].
pub async fn attach(session: &Session, asked: Asked) -> Result<u32, Stop> {
    let (node, vm) = (session.node(), &asked.vm);
    log::info!("ssh: {} with {}: the console of {vm}", session.name(), session.user());
    let first = match console_of(node, vm) {
        Ok(id) => Console::begin(node, vm, id).await,
        Err(why) => Err(why),
    };
    let outcome = first.as_ref().map_or_else(String::as_str, |_| audit::DONE);
    audit::done(node, &session.who(), &format!("vm console {vm}"), outcome).await;
    let console = match first {
        Ok(console) => console,
        Err(why) => return session.aside(&format!("{why}\n")).await.map(|()| FAILED),
    };
    let mut collecting = pin!(console.collect());
    let served = async {
        match (asked.follow, session.size()) {
            (true, _) => follow(session, &console, asked.limit).await,
            (false, None) => carry(session, &console, asked.limit.unwrap_or(LOOK)).await,
            (false, Some(_)) => Seat::new(session, &console).sit().await,
        }
    };
    let Either::Right(done) = race(collecting.as_mut(), served).await else { return Ok(FAILED) };
    // A question to the core must not be left in the middle: the answer would be written over what the next one asks with.
    console.left.set(true);
    collecting.await;
    done
}

/// Shows what comes as it comes.
async fn follow(session: &Session, console: &Console<'_>, limit: Option<Duration>) -> Result<u32, Stop> {
    say(session, &format!("console of {}, as it comes; nothing that you type is read, Ctrl-C ends this", console.vm))
        .await?;
    let began = Instant::now();
    loop {
        if !show(session, console).await? {
            return Ok(FAILED);
        }
        let left = limit.map_or(IDLE, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(0);
        }
        let _ = session.wait_for(timeout(left, console.came.notified())).await?;
    }
}

/// Gives the VM each line that comes, and shows what it says as it comes; for programs, and for people whose terminal edits the lines. When the input has
/// ended, it goes on until the VM has said nothing for so long.
async fn carry(session: &Session, console: &Console<'_>, quiet: Duration) -> Result<u32, Stop> {
    let vm = console.vm;
    say(session, &format!("console of {vm}: it gets each line that you type; a line ~q, or Ctrl-D, ends this")).await?;
    let shows = async {
        while show(session, console).await? {
            console.came.notified().await;
        }
        Ok(FAILED)
    };
    let reads = async {
        loop {
            let Some(mut line) = input::line(session).await? else { return Ok(None) };
            if line.len() > LINE {
                say(session, &format!("that line has more than {LINE} bytes: it is not sent")).await?;
                continue;
            }
            line.push(b'\n');
            match console.take(&line).await {
                Ok(true) => {}
                Ok(false) => return Ok(Some(0)),
                Err(why) => return refuse(session, console, &why).await.map(Some),
            }
        }
    };
    let mut reads = pin!(reads);
    match race(shows, reads.as_mut()).await {
        Either::Left(done) => {
            // What is being asked is asked to its end.
            let asked =
                poll_fn(|cx| if console.asks.get() { reads.as_mut().poll(cx).map(drop) } else { Poll::Ready(()) });
            race(asked, console.asked.notified()).await;
            done
        }
        Either::Right(Ok(None)) => {
            let began = Instant::now();
            while show(session, console).await? {
                let left = quiet.min((quiet * NOISY).saturating_sub(began.elapsed()));
                if left.is_zero() || timeout(left, console.came.notified()).await.is_err() {
                    return Ok(0);
                }
            }
            Ok(FAILED)
        }
        Either::Right(done) => done.map(|status| status.unwrap_or(0)),
    }
}

/// Says why a VM did not take a line, behind what it has said.
async fn refuse(session: &Session, console: &Console<'_>, why: &str) -> Result<u32, Stop> {
    if show(session, console).await? {
        say(session, why).await?;
    }
    Ok(FAILED)
}

/// Shows what the VM has said. Whether it goes on; else that was said.
async fn show(session: &Session, console: &Console<'_>) -> Result<bool, Stop> {
    // Where it is over, all that was said before is there.
    let over = console.over.borrow().clone();
    let collected = console.collected.take();
    for Said { missed, text } in collected.0 {
        if missed != 0 {
            say(session, &format!("{missed} bytes missed")).await?;
        }
        session.say(Stream::Output, &text).await?;
    }
    match over {
        Some(why) => say(session, &why).await.map(|()| false),
        None => Ok(true),
    }
}

/// Says something that is not the VM's, on standard error.
async fn say(session: &Session, what: &str) -> Result<(), Stop> {
    session.aside(&format!("[{what}]\n")).await
}

impl<'n> Console<'n> {
    /// Begins to watch: what is still there of what the VM has said is collected.
    async fn begin(node: &'n Node, vm: &'n str, id: VmId) -> Result<Console<'n>, String> {
        let console = Console {
            node,
            vm,
            id,
            next: Cell::new(u64::MAX),
            collected: RefCell::default(),
            over: RefCell::default(),
            came: Notify::new(),
            asks: Cell::new(false),
            asked: Notify::new(),
            left: Cell::new(false),
        };
        match console.fetch().await? {
            Some(_) => Ok(console),
            None => Err(format!("{vm} does not run (any more): `vm list` shows all")),
        }
    }

    /// Fetches what the VM says, whether somebody takes it or not, until the client has left or nothing more can come.
    async fn collect(&self) {
        while !self.left.get() {
            let seen = news();
            let why = match self.fetch().await {
                Ok(Some(true)) => continue,
                Ok(Some(false)) => {
                    sleep(PAUSE).await;
                    let _ = timeout(LOOK, news_since(seen)).await;
                    continue;
                }
                Ok(None) => self.ended(),
                Err(why) => why,
            };
            self.over.replace(Some(why));
            self.came.notify_one();
            while !self.left.get() {
                sleep(LOOK).await;
            }
        }
    }

    fn ended(&self) -> String {
        format!("{} has ended: `audit` says why", self.vm)
    }

    /// Collects what the VM has said since the last time, or the first part of that: whether there may be more. `None` when it has ended.
    async fn fetch(&self) -> Result<Option<bool>, String> {
        let Some(heard) = console_io::hear(self.node, self.id, self.next.get()).await? else { return Ok(None) };
        let has_more = heard.has_more();
        let Heard { next, missed, text } = heard;
        self.next.set(next);
        if missed != 0 || !text.is_empty() {
            self.collected.borrow_mut().add(Said { missed, text });
            self.came.notify_one();
        }
        Ok(Some(has_more))
    }

    /// Takes a line with its end: whether there may be more. `~q` ends it, and what begins with `~~` has one less.
    ///
    /// # Errors
    ///
    /// Why the VM has not taken all of it.
    pub async fn take(&self, line: &[u8]) -> Result<bool, String> {
        match line {
            b"~q\n" | b"~.\n" => return Ok(false),
            [b'~', rest @ ..] if rest.starts_with(b"~") => self.send(rest).await?,
            line => self.send(line).await?,
        }
        Ok(true)
    }

    /// Gives the VM a line. Why not all of it was taken.
    async fn send(&self, line: &[u8]) -> Result<(), String> {
        let (mut rest, mut since) = (line, Instant::now());
        while !rest.is_empty() {
            match self.offer(&rest[..rest.len().min(INPUT_BYTES)]).await? {
                0 if since.elapsed() >= PATIENCE => {
                    return Err(format!("{} does not read its console: {} bytes were not taken", self.vm, rest.len()));
                }
                0 => sleep(AGAIN).await,
                taken => (rest, since) = (rest.get(taken..).unwrap_or_default(), Instant::now()),
            }
        }
        Ok(())
    }

    /// Offers the VM some bytes: how many it has taken.
    async fn offer(&self, bytes: &[u8]) -> Result<usize, String> {
        self.asks.set(true);
        let taken = console_io::offer(self.node, self.id, bytes).await;
        self.asks.set(false);
        self.asked.notify_one();
        taken?.ok_or_else(|| self.ended())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing is lost unsaid, and no more is kept than there is room for.
        #[test]
        fn what_is_collected_is_bounded_and_says_what_it_lost(pieces in prop::collection::vec((0_u64..3, 1_usize..2049), 0..64)) {
            let (mut collected, mut all) = (Collected::default(), 0);
            for &(missed, len) in &pieces {
                let text = (all + missed..).take(len).map(|position| position.to_le_bytes()[0]).collect();
                collected.add(Said { missed, text });
                all += missed + len as u64;
            }
            prop_assert!(collected.0.iter().map(|said| said.text.len()).sum::<usize>() <= KEPT);
            let mut position = 0;
            for said in &collected.0 {
                position += said.missed;
                for &byte in &said.text {
                    prop_assert_eq!(byte, position.to_le_bytes()[0]);
                    position += 1;
                }
            }
            prop_assert_eq!(position, all);
        }
    }
}
