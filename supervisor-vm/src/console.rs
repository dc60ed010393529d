//! `vm console`: the console of a VM. With `--follow` what it says is shown as it comes, and nothing is read. Else the two take turns, since the library
//! cannot write while it waits for somebody to type: what the VM says meanwhile is collected, and shown behind each line.

use crate::act::console_of;
use crate::audit;
use crate::command::Command;
use crate::node::Node;
use crate::parse::parse;
use crate::peer::{End, FAILED, Failure, IDLE, Peer, Server};
use crate::refusal::said;
use crate::shell::{LINE, read_line};
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::INPUT_BYTES;
use abi::limits::WATCHES;
use abi::request_page::Piece;
use abi::vm::VmId;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::pin;
use ilwaco::control::{Error, news, news_since};
use ilwaco::net::TcpStream;
use ilwaco::sync::{Mutex, Notify};
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, Instant, sleep, timeout};
use zssh::Channel;

/// Where what a console has said is put in the request page, and how much of it at a time.
const PIECE: Piece = Piece { offset: 2048, len: 2048 };
/// How often the core is asked even where it says that nothing came: so long before it takes nobody to be watching.
const LOOK: Duration = Duration::from_secs(1);
/// How long what came is collected before it is fetched: a VM that says much costs no more than so many looks a second.
const PAUSE: Duration = Duration::from_millis(50);
/// When a VM that took nothing of a line is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a VM has to say nothing before the next line is read.
const QUIET: Duration = Duration::from_millis(300);
/// How long it may go on instead.
const TURN: Duration = Duration::from_secs(2);
/// How many times as long as it has to be quiet it may go on when the input has ended.
const NOISY: u32 = 10;
/// Bytes that are collected while a line is awaited; the oldest make room.
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
    left: Cell<bool>,
}

/// Connects a client with the console of a VM until one of them ends.
///
/// # Errors
///
/// [`End`].
pub async fn attach<'a>(
    mut channel: Channel<'_, '_, Peer<'a>>,
    server: &Server,
    name: &str,
    tcp: &Rc<Mutex<TcpStream>>,
    asked: Asked,
) -> Result<(), End<'a>> {
    let (node, vm) = (server.node(), &asked.vm);
    let who = format!("{} at {name}", channel.user());
    log::info!("ssh: {name} with {}: the console of {vm}", channel.user());
    let first = match console_of(node, vm) {
        Ok(id) => Console::begin(node, vm, id).await,
        Err(why) => Err(why),
    };
    audit::done(node, &who, &format!("vm console {vm}"), first.as_ref().map_or_else(String::as_str, |_| audit::DONE))
        .await;
    let console = match first {
        Ok(console) => console,
        Err(why) => {
            timeout(IDLE, channel.write_all_stderr(format!("{why}\n").as_bytes())).await??;
            return Ok(timeout(IDLE, channel.exit(FAILED)).await??);
        }
    };
    let mut collecting = pin!(console.collect());
    let served = async {
        let status = if asked.follow {
            follow(&mut channel, &console, tcp, asked.limit).await?
        } else {
            take_turns(&mut channel, &console, asked.limit.unwrap_or(LOOK)).await?
        };
        Ok(timeout(IDLE, channel.exit(status)).await??)
    };
    let Either::Right(done) = race(collecting.as_mut(), served).await else { return Ok(()) };
    // A question to the core must not be left in the middle: the answer would be written over what the next one asks with.
    console.left.set(true);
    collecting.await;
    done
}

/// Shows what comes as it comes. The status in the end.
async fn follow<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    console: &Console<'_>,
    tcp: &Rc<Mutex<TcpStream>>,
    limit: Option<Duration>,
) -> Result<u32, End<'a>> {
    say(channel, &format!("console of {}, as it comes; nothing that you type is read, Ctrl-C ends this", console.vm))
        .await?;
    let began = Instant::now();
    loop {
        if !show(channel, console, Duration::ZERO, Duration::ZERO).await? {
            return Ok(FAILED);
        }
        let left = limit.map_or(LOOK, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(0);
        }
        // Nothing is read, so nothing else tells that the client has gone.
        if !tcp.lock().await.is_open() {
            return Err(End::Gone(Failure::ChannelClosed));
        }
        let _ = timeout(left.min(LOOK), console.came.notified()).await;
    }
}

/// Reads line by line, and shows what comes between. `quiet` is how long the VM has to say nothing when the input has ended. The status in the end.
async fn take_turns<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    console: &Console<'_>,
    quiet: Duration,
) -> Result<u32, End<'a>> {
    let vm = console.vm;
    say(
        channel,
        &format!(
            "console of {vm}: it gets each line that you type, and what it says is shown when you press Enter, not before; a line ~q, or Ctrl-D, ends this. \
             `vm console {vm} --follow` in a second window shows what it says as it comes"
        ),
    )
    .await?;
    loop {
        if !show(channel, console, QUIET, TURN).await? {
            return Ok(FAILED);
        }
        let Some(mut line) = timeout(IDLE, read_line(channel)).await?? else {
            let goes_on = show(channel, console, quiet, quiet * NOISY).await?;
            return Ok(if goes_on { 0 } else { FAILED });
        };
        if line.len() > LINE {
            say(channel, &format!("that line has more than {LINE} bytes: it is not sent")).await?;
            continue;
        }
        line.push(b'\n');
        let sent = match &line[..] {
            b"~q\n" => return Ok(0),
            [b'~', rest @ ..] if rest.starts_with(b"~") => console.send(rest).await,
            line => console.send(line).await,
        };
        if let Err(why) = sent {
            if show(channel, console, QUIET, TURN).await? {
                say(channel, &why).await?;
            }
            return Ok(FAILED);
        }
    }
}

/// Shows what the VM has said and says until it was `quiet` for so long, and for `most` at most. Whether it goes on; else that was said.
async fn show<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    console: &Console<'_>,
    quiet: Duration,
    most: Duration,
) -> Result<bool, End<'a>> {
    let began = Instant::now();
    loop {
        // Where it is over, all that was said before is there.
        let over = console.over.borrow().clone();
        let collected = console.collected.take();
        for Said { missed, text } in collected.0 {
            if missed != 0 {
                say(channel, &format!("{missed} bytes missed")).await?;
            }
            timeout(IDLE, channel.write_all_stdout(&text)).await??;
        }
        if let Some(why) = over {
            say(channel, &why).await?;
            return Ok(false);
        }
        let left = quiet.min(most.saturating_sub(began.elapsed()));
        if left.is_zero() || timeout(left, console.came.notified()).await.is_err() {
            return Ok(true);
        }
    }
}

/// Says something that is not the VM's, on standard error.
async fn say<'a>(channel: &mut Channel<'_, '_, Peer<'a>>, what: &str) -> Result<(), End<'a>> {
    Ok(timeout(IDLE, channel.write_all_stderr(format!("[{what}]\n").as_bytes())).await??)
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
        let mut control = self.node.control().await;
        let request = ControlRequest::ConsoleRead { vm: self.id, from: self.next.get(), to: PIECE };
        match control.ask(request, drop).await.map_err(said)? {
            ControlReply::Console { next, missed, bytes, .. } => {
                let len = u16::try_from(bytes).unwrap_or(0).min(PIECE.len);
                let text = control.read(Piece { len, ..PIECE }).unwrap_or_default();
                self.next.set(next);
                if missed != 0 || len != 0 {
                    self.collected.borrow_mut().add(Said { missed, text });
                    self.came.notify_one();
                }
                Ok(Some(len == PIECE.len))
            }
            ControlReply::Done { status: status::NOT_FOUND, .. } => Ok(None),
            ControlReply::Done { status: status::CONSOLES_TAKEN, .. } => {
                Err(format!("{WATCHES} consoles are watched already: leave one, and try again after 10 s"))
            }
            ControlReply::Done { status: status::NO_FRAMES, .. } => {
                Err("there is no memory to watch a console: end a VM".to_string())
            }
            ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
            _ => Err(said(Error::Answer)),
        }
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
        let mut control = self.node.control().await;
        let from = control.write(PIECE.offset, bytes).ok_or_else(|| said(Error::Answer))?;
        match control.ask(ControlRequest::ConsoleWrite { vm: self.id, from }, drop).await.map_err(said)? {
            ControlReply::Done { status: status::OK, value } => Ok(usize::try_from(value).unwrap_or(0)),
            ControlReply::Done { status: status::BUSY, .. } => Ok(0),
            ControlReply::Done { status: status::NOT_FOUND, .. } => Err(self.ended()),
            ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
            _ => Err(said(Error::Answer)),
        }
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
