//! `vm console`: the console of a VM, both ways, as long as the client stays. What the VM says is shown as it comes; what is typed goes to it line by
//! line.
//!
//! The library must not be left in the middle of a packet. So it is asked for one only when something of it has come, and all other waiting is done here.

use crate::act::console_of;
use crate::audit;
use crate::command::{Command, parse};
use crate::node::Node;
use crate::peer::{End, FAILED, IDLE, Peer, Server};
use crate::refusal::said;
use crate::typed::{Line, Typed};
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::INPUT_BYTES;
use abi::limits::WATCHES;
use abi::request_page::Piece;
use abi::vm::VmId;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ilwaco::control::{Error, news, news_since};
use ilwaco::net::TcpStream;
use ilwaco::sync::Mutex;
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, Instant, sleep, timeout};
use zssh::{Channel, Received};

/// Where what a console has said is put in the request page, and how much of it at a time.
const PIECE: Piece = Piece { offset: 2048, len: 2048 };
/// How often the core is asked even where it says that nothing came: so long before it takes nobody to be watching.
const LOOK: Duration = Duration::from_secs(1);
/// How long what came is collected before it is shown: a VM that says much costs no more than so many looks a second.
const PAUSE: Duration = Duration::from_millis(50);
/// When a VM that took nothing of what was typed is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it may take nothing before that is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// Typed bytes that wait for the VM; the client is asked for no more meanwhile.
const WAITING: usize = 8 * 1024;
/// How many times as long as it has to be quiet somebody may wait for that who types no more.
const NOISY: u32 = 10;

/// What a console has said.
#[derive(Debug, Default)]
struct Heard {
    text: Vec<u8>,
    missed: u64,
    ended: bool,
}

/// What a line asks for, when that is a console and nothing else: the VM, and how long it has to be quiet when all was typed.
pub fn asked(line: &str) -> Option<(String, Duration)> {
    match &parse(line).ok()?[..] {
        [(_, Command::VmConsole { vm, quiet })] => Some((vm.clone(), Duration::from_secs(u64::from(*quiet)))),
        _ => None,
    }
}

/// Somebody at the console of a VM.
struct Attached<'n> {
    node: &'n Node,
    id: VmId,
    /// How far it was read.
    next: u64,
    /// When the core is asked next, whether something is known to have come or not.
    look_at: Instant,
    seen: u64,
    typed: Typed,
    /// Since when the VM has taken nothing of what was typed.
    stuck: Option<Instant>,
    told_stuck: bool,
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
    (vm, quiet): (String, Duration),
) -> Result<(), End<'a>> {
    let node = server.node();
    let who = format!("{} at {name}", channel.user());
    log::info!("ssh: {name} with {}: the console of {vm}", channel.user());
    let found = console_of(node, &vm);
    let first = match found {
        Ok(id) => Attached::new(node, id).begin(&vm).await,
        Err(why) => Err(why),
    };
    audit::done(node, &who, &format!("vm console {vm}"), first.as_ref().map_or_else(String::as_str, |_| audit::DONE));
    let (mut attached, heard) = match first {
        Ok(first) => first,
        Err(why) => {
            timeout(IDLE, channel.write_all_stderr(format!("{why}\n").as_bytes())).await??;
            return Ok(timeout(IDLE, channel.exit(FAILED)).await??);
        }
    };
    let greeting = format!("[console of {vm}: it gets what you type, line by line; a line ~q, or Ctrl-D, ends this]\n");
    timeout(IDLE, channel.write_all_stderr(greeting.as_bytes())).await??;
    timeout(IDLE, channel.open()).await??;
    show(&mut channel, &heard).await?;
    let status = serve(&mut channel, &mut attached, tcp, &vm, quiet).await?;
    Ok(timeout(IDLE, channel.exit(status)).await??)
}

/// Carries bytes both ways. The status in the end.
async fn serve<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    attached: &mut Attached<'_>,
    tcp: &Rc<Mutex<TcpStream>>,
    vm: &str,
    quiet: Duration,
) -> Result<u32, End<'a>> {
    let mut last = Instant::now();
    let mut all_typed: Option<Instant> = None;
    loop {
        if news() != attached.seen || Instant::now() >= attached.look_at {
            match attached.hear().await {
                Ok(heard) if heard.ended => {
                    say(channel, &format!("{vm} has ended: `audit` says why")).await?;
                    return Ok(FAILED);
                }
                Ok(heard) => {
                    if !heard.text.is_empty() {
                        last = Instant::now();
                    }
                    show(channel, &heard).await?;
                }
                Err(why) => {
                    say(channel, &why).await?;
                    return Ok(FAILED);
                }
            }
        }
        match attached.pass_on().await {
            Ok(0) => {}
            Ok(_) => last = Instant::now(),
            Err(why) => {
                say(channel, &why).await?;
                return Ok(FAILED);
            }
        }
        let waits = attached.typed.len();
        let stuck = waits != 0 && attached.stuck.is_some_and(|since| since.elapsed() >= PATIENCE);
        if stuck && !core::mem::replace(&mut attached.told_stuck, true) {
            say(channel, &format!("{vm} does not read its console: {waits} bytes wait")).await?;
        }
        if let Some(since) = all_typed {
            if waits == 0 && (last.elapsed() >= quiet || since.elapsed() >= quiet * NOISY + PATIENCE) {
                return Ok(0);
            }
            if stuck {
                return Ok(FAILED);
            }
        } else if last.elapsed() >= IDLE {
            say(channel, &format!("nothing has happened for {} s", IDLE.as_secs())).await?;
            return Ok(0);
        }
        let listens = all_typed.is_none() && waits < WAITING;
        let until = if all_typed.is_some() { last + quiet } else { last + IDLE };
        if let Either::Left(()) = race(arrived(tcp, listens), attached.rest(until)).await {
            match timeout(IDLE, channel.receive()).await?? {
                Received::Nothing => {}
                Received::Data(bytes) => {
                    last = Instant::now();
                    if attached.typed.take(bytes) == Some(Line::Quit) {
                        // What was typed before it is the VM's.
                        attached.pass_on().await.unwrap_or(0);
                        return Ok(0);
                    }
                }
                Received::Eof => {
                    last = Instant::now();
                    all_typed = Some(last);
                    attached.typed.end();
                }
            }
        }
    }
}

/// Waits until something of the client's has come, where it is listened to.
async fn arrived(tcp: &Rc<Mutex<TcpStream>>, listens: bool) {
    if !listens {
        core::future::pending::<()>().await;
    }
    // Where the connection has broken, who reads next finds out.
    let _ = tcp.lock().await.readable().await;
}

/// Shows what the VM has said.
async fn show<'a>(channel: &mut Channel<'_, '_, Peer<'a>>, heard: &Heard) -> Result<(), End<'a>> {
    if heard.missed != 0 {
        say(channel, &format!("{} bytes missed", heard.missed)).await?;
    }
    Ok(timeout(IDLE, channel.write_all_stdout(&heard.text)).await??)
}

/// Says something that is not the VM's, on standard error.
async fn say<'a>(channel: &mut Channel<'_, '_, Peer<'a>>, what: &str) -> Result<(), End<'a>> {
    Ok(timeout(IDLE, channel.write_all_stderr(format!("[{what}]\n").as_bytes())).await??)
}

impl<'n> Attached<'n> {
    fn new(node: &'n Node, id: VmId) -> Attached<'n> {
        let look_at = Instant::now();
        Attached { node, id, next: u64::MAX, look_at, seen: 0, typed: Typed::default(), stuck: None, told_stuck: false }
    }

    /// Begins to watch: what is still there of what the VM has said.
    async fn begin(mut self, vm: &str) -> Result<(Attached<'n>, Heard), String> {
        match self.hear().await? {
            Heard { ended: true, .. } => Err(format!("{vm} does not run (any more): `vm list` shows all")),
            heard => Ok((self, heard)),
        }
    }

    /// What the VM has said since the last time, or the first part of that.
    async fn hear(&mut self) -> Result<Heard, String> {
        self.seen = news();
        self.look_at = Instant::now() + LOOK;
        let mut control = self.node.control().await;
        let request = ControlRequest::ConsoleRead { vm: self.id, from: self.next, to: PIECE };
        match control.ask(request, drop).await.map_err(said)? {
            ControlReply::Console { next, missed, bytes, .. } => {
                let len = u16::try_from(bytes).unwrap_or(0).min(PIECE.len);
                let text = control.read(Piece { len, ..PIECE }).unwrap_or_default();
                self.next = next;
                if len == PIECE.len {
                    // There may be more.
                    self.look_at = Instant::now();
                }
                Ok(Heard { text, missed, ended: false })
            }
            ControlReply::Done { status: status::NOT_FOUND, .. } => Ok(Heard { ended: true, ..Heard::default() }),
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

    /// Gives the VM what was typed, as much as it takes: how many bytes.
    async fn pass_on(&mut self) -> Result<usize, String> {
        let mut all = 0;
        while !self.typed.is_empty() {
            let bytes = self.typed.front(INPUT_BYTES);
            let mut control = self.node.control().await;
            let from = control.write(PIECE.offset, &bytes).ok_or_else(|| said(Error::Answer))?;
            let taken =
                match control.ask(ControlRequest::ConsoleWrite { vm: self.id, from }, drop).await.map_err(said)? {
                    ControlReply::Done { status: status::OK, value } => usize::try_from(value).unwrap_or(0),
                    ControlReply::Done { status: status::BUSY | status::NOT_FOUND, .. } => 0,
                    ControlReply::Done { status, .. } => return Err(said(Error::Refused(status))),
                    _ => return Err(said(Error::Answer)),
                };
            if taken == 0 {
                self.stuck.get_or_insert_with(Instant::now);
                return Ok(all);
            }
            self.typed.drop_front(taken);
            (self.stuck, self.told_stuck) = (None, false);
            all += taken;
        }
        Ok(all)
    }

    /// Waits until it is time to look again, no longer than until `until`.
    async fn rest(&self, until: Instant) {
        let now = Instant::now();
        let mut wake = self.look_at.min(until);
        if !self.typed.is_empty() {
            wake = wake.min(now + AGAIN);
        }
        let wake = wake.max(now + PAUSE);
        let told = async {
            sleep(PAUSE).await;
            news_since(self.seen).await;
        };
        race(told, sleep(wake.saturating_since(now))).await;
    }
}
