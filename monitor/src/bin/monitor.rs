//! The monitor: reads commands from COM1, talks to the core, prints to the log.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::component::bits::PORT_IRQ;
use component::abi::message::Message;
use component::ring::RingError;
use component::{Component, Inbox, Once, Outbox, irq_ack, now, port_in, port_out, wait};
use core::fmt::Arguments;
use monitor::editor::{Editor, LINE_MAX, Typed};
use monitor::session::{Host, Session};

component::main!(main);

/// Registers of the 16550 at COM1.
mod com1 {
    const BASE: u16 = 0x3f8;
    /// Received byte.
    pub const DATA: u16 = BASE;
    /// Interrupts: bit 0 for received data.
    pub const INTERRUPTS: u16 = BASE + 1;
    /// Modem control: bits 0 and 1 tell the other end that we listen, bit 3 connects the interrupt line.
    pub const MODEM: u16 = BASE + 4;
    /// Line status: bit 0 while there is received data.
    pub const STATUS: u16 = BASE + 5;
}

/// Bytes taken in a row before others get their turn.
const BURST: usize = 256;
/// Lines that wait while a command runs.
const BACKLOG: usize = 8;
/// Seconds after which an answer of the core is given up.
const PATIENCE: u64 = 5;

type Backlog = heapless::Deque<heapless::String<LINE_MAX>, BACKLOG>;

static BACKLOG_MEMORY: Once<Backlog> = Once::new(Backlog::new());

/// The ring to the core and the log.
struct Line {
    requests: Outbox,
}

impl Host for Line {
    fn send(&mut self, request: &Message) -> bool {
        self.requests.send(request)
    }

    fn print(&mut self, line: Arguments<'_>) {
        log::info!("{line}");
    }
}

fn main(component: Component) -> ! {
    // Whoever typed a command wants all of its answer; nobody waits for the monitor.
    component::set_log_patience(1000);
    let info = component.info();
    let backlog = BACKLOG_MEMORY.take().expect("taken once");
    let mut replies = component.inbox("core-monitor");
    let mut line = Line { requests: component.outbox("monitor-core") };
    let mut session = Session::new(u16::try_from(info.vm_slots).unwrap_or(u16::MAX));
    let mut editor = Editor::new();
    if let Err(error) = open() {
        log::error!("no console: COM1 cannot be used: {error}; give the monitor the ports 0x3f8 to 0x3ff");
    }
    log::info!("ready incarnation={}", info.incarnation);
    let patience = info.tsc_hz.saturating_mul(PATIENCE);
    let mut deadline = u64::MAX;
    let mut more = receive(&mut editor, backlog, info.device_count, true);
    loop {
        while !session.busy()
            && let Some(text) = backlog.pop_front()
        {
            session.line(&text, &mut line);
            deadline = now().saturating_add(patience);
        }
        let until = match (more, session.busy()) {
            (true, _) => 0,
            (false, true) => deadline,
            (false, false) => u64::MAX,
        };
        let bits = wait(replies.doorbell | PORT_IRQ, until, 0);
        if answers(&mut replies, &mut session, &mut line) {
            deadline = now().saturating_add(patience);
        } else if session.busy() && now() >= deadline {
            session.expired(&mut line);
        }
        if more || bits & PORT_IRQ != 0 {
            more = receive(&mut editor, backlog, info.device_count, bits & PORT_IRQ != 0);
        }
    }
}

/// Switches the receive interrupt on.
fn open() -> Result<(), component::Error> {
    port_out(com1::MODEM, 1, 0x0b)?;
    port_out(com1::INTERRUPTS, 1, 1)
}

/// Takes what was typed. True when there may be more.
fn receive(editor: &mut Editor, backlog: &mut Backlog, irq: u32, acknowledge: bool) -> bool {
    let more = take_bytes(editor, backlog);
    if acknowledge {
        // Without the authority there are no interrupts either, and `open` has said so.
        let _ = irq_ack(irq);
        // What came in before that has raised no interrupt, and would keep the line up so that nothing ever does.
        return take_bytes(editor, backlog) || more;
    }
    more
}

fn take_bytes(editor: &mut Editor, backlog: &mut Backlog) -> bool {
    for _ in 0..BURST {
        // A line status of all ones is no device.
        if !matches!(port_in(com1::STATUS, 1), Ok(status) if status & 1 != 0 && status != 0xff) {
            return false;
        }
        let Ok(byte) = port_in(com1::DATA, 1) else { return false };
        let fits = match editor.byte(byte.to_le_bytes()[0]) {
            None => true,
            Some(Typed::Line(text)) => backlog.push_back(text).is_ok(),
            Some(Typed::Overlong) => {
                log::info!("error input: the line is too long; write at most {LINE_MAX} characters");
                true
            }
        };
        if !fits {
            log::info!("error input: too many commands at once; wait for \"done\" before the next");
        }
    }
    true
}

/// Gives the core's answers to the session. True when there were any.
fn answers(replies: &mut Inbox, session: &mut Session, line: &mut Line) -> bool {
    let mut any = false;
    for _ in 0..replies.ring.capacity() {
        match replies.ring.pop() {
            Ok(Some(message)) => {
                any = true;
                session.reply(&message, line);
            }
            Ok(None) => break,
            Err(RingError::EpochChanged) => {
                any = true;
                session.reset(line);
            }
            Err(RingError::Corrupt) => {
                // A reset meanwhile is found at the next look.
                let _ = replies.ring.skip_all();
            }
        }
    }
    any
}
