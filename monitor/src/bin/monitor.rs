//! The monitor: reads commands from COM1, talks to the core, prints to the log.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::component::bits::PORT_IRQ;
use component::abi::control::NOTE;
use component::abi::message::Message;
use component::abi::request_page::Piece;
use component::abi::service::Service;
use component::ring::{RingError, SharedMemory};
use component::{Component, Inbox, Once, Outbox, irq_ack, notify, now, port_in, port_out, wait};
use core::fmt::Arguments;
use monitor::command::is_noted;
use monitor::editor::{Editor, LINE_MAX, Typed};
use monitor::host::{Asked, Host};
use monitor::power::PAUSES;
use monitor::session::Session;

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

/// Bytes taken in a row before others get their turn, and typed ahead at most.
const BURST: usize = 256;
/// Lines that wait while a command runs.
const BACKLOG: usize = 8;
/// Seconds after which an answer of the core is given up.
const PATIENCE: u64 = 5;
/// Lines that are printed before others have their turn: on a slow machine a list of a dozen takes longer than the monitor may run.
const LINES_IN_A_ROW: u32 = 8;
/// Times a second that room in the log is looked for, and how often in vain until what else there is to do goes on without: half a
/// second, since the core gives a component a whole one to take what it was rung for.
const LOOKS: u64 = 200;
const LOOKS_MOST: u32 = 100;

/// What was typed and not looked at yet.
static TYPED: Once<heapless::Deque<u8, BURST>> = Once::new(heapless::Deque::new());

/// COM1, the ring to the core, and the log.
struct Console {
    requests: Outbox,
    /// To the disk component, where there is one.
    disks: Option<Outbox>,
    page: SharedMemory,
    typed: &'static mut heapless::Deque<u8, BURST>,
    tsc_hz: u64,
    /// The ports' interrupt, by its device number.
    interrupt: u32,
    /// Looks for room in the log that are left.
    looks: u32,
    /// Lines that were printed since others had their turn.
    in_a_row: u32,
}

impl Host for Console {
    fn send(&mut self, request: &Message) -> bool {
        self.requests.send(request)
    }

    fn ask_disks(&mut self, request: &Message) -> Asked {
        let Some(disks) = &mut self.disks else { return Asked::Nobody };
        if !disks.send(request) {
            return Asked::Full;
        }
        notify(disks.doorbell);
        Asked::Sent
    }

    fn write_page(&mut self, at: Piece, bytes: &[u8]) {
        // The page is as long as any piece of it reaches.
        let _ = self.page.write(at.offset.into(), bytes);
    }

    fn read_page(&mut self, at: Piece, bytes: &mut [u8]) {
        let _ = self.page.read(at.offset.into(), bytes);
    }

    // Called from a hundred places, and copied into each it took half of the program's memory.
    #[inline(never)]
    fn print(&mut self, line: Arguments<'_>) {
        self.in_a_row += 1;
        if self.in_a_row == LINES_IN_A_ROW {
            self.in_a_row = 0;
            let bits = wait(PORT_IRQ, now().saturating_add(self.tsc_hz / LOOKS), 0);
            self.receive(bits);
        }
        while component::print(log::Level::Info, line) == Err(component::Error::Busy) && self.looks > 0 {
            self.looks -= 1;
            // The serial line is slower than we are. What is typed meanwhile must not be lost.
            let bits = wait(PORT_IRQ, now().saturating_add(self.tsc_hz / LOOKS), 0);
            self.receive(bits);
        }
    }
}

impl Console {
    /// Switches the receive interrupt on.
    fn open(&mut self) {
        let opened = port_out(com1::MODEM, 1, 0x0b).and_then(|()| port_out(com1::INTERRUPTS, 1, 1));
        if let Err(error) = opened {
            log::error!("no console: COM1 cannot be used: {error}; give the monitor the ports 0x3f8 to 0x3ff");
        }
        self.receive(PORT_IRQ);
    }

    /// Takes what has come in, and lets the interrupt come again if it was what woke us (`bits`).
    #[inline(never)]
    fn receive(&mut self, bits: u64) {
        self.take_bytes();
        if bits & PORT_IRQ != 0 {
            // Without the authority there are no interrupts either, and `open` has said so.
            let _ = irq_ack(self.interrupt);
            // What came in before that has raised no interrupt, and would keep the line up so that nothing ever does.
            self.take_bytes();
        }
    }

    fn take_bytes(&mut self) {
        while !self.typed.is_full() {
            // A line status of all ones is no device.
            if !matches!(port_in(com1::STATUS, 1), Ok(status) if status & 1 != 0 && status != 0xff) {
                return;
            }
            let Ok(byte) = port_in(com1::DATA, 1) else { return };
            // Not full, as looked at above.
            let _ = self.typed.push_back(byte.to_le_bytes()[0]);
        }
    }

    /// Makes lines of what was typed. True when bytes may be left at the device, which then gives no interrupt.
    fn edit(&mut self, editor: &mut Editor, backlog: &mut Backlog) -> bool {
        let more = self.typed.is_full();
        while let Some(byte) = self.typed.pop_front() {
            let fits = match editor.byte(byte) {
                None => true,
                Some(Typed::Line(text)) => backlog.push_back(text).is_ok(),
                Some(Typed::Overlong) => {
                    self.print(format_args!("error input: the line is too long; write at most {LINE_MAX} characters"));
                    true
                }
            };
            if !fits {
                self.print(format_args!("error input: too many commands at once; wait for \"done\" before the next"));
            }
        }
        more
    }
}

type Backlog = heapless::Deque<heapless::String<LINE_MAX>, BACKLOG>;

static BACKLOG_MEMORY: Once<Backlog> = Once::new(Backlog::new());

fn main(component: Component) -> ! {
    let info = component.info();
    let backlog = BACKLOG_MEMORY.take().expect("taken once");
    let (mut replies, requests) = component.service(Service::Control);
    let (mut disk_answers, disks) = (component.find_inbox("diskmux-monitor"), component.find_outbox("monitor-diskmux"));
    let mut console = Console {
        requests,
        disks,
        page: component.request_page(),
        typed: TYPED.take().expect("taken once"),
        tsc_hz: info.tsc_hz,
        interrupt: info.device_count,
        looks: LOOKS_MOST,
        in_a_row: 0,
    };
    let mut session = Session::new(info.vm_slots).with_clock(info.tsc_hz);
    let mut editor = Editor::new();
    console.open();
    console.print(format_args!("ready incarnation={}", info.incarnation));
    let patience = info.tsc_hz.saturating_mul(PATIENCE);
    let (mut deadline, mut pause_ends) = (u64::MAX, u64::MAX);
    let disk_bell = disk_answers.as_ref().map_or(0, |answers| answers.doorbell);
    loop {
        let more = console.edit(&mut editor, backlog);
        while !session.busy()
            && let Some(text) = backlog.pop_front()
        {
            // The operator's VM reads that in the log, and writes it down with what becomes of it.
            if is_noted(&text) {
                console.print(format_args!("{NOTE}{text}"));
            }
            session.line(&text, &mut console);
            deadline = now().saturating_add(patience);
        }
        let until = match (more, session.busy()) {
            (true, _) => 0,
            // The disk component itself gives up what takes too long.
            (false, true) if session.waits_for_disks() => u64::MAX,
            (false, true) if session.pauses() => pause_ends,
            (false, true) => deadline,
            (false, false) => u64::MAX,
        };
        let bits = wait(replies.doorbell | disk_bell | PORT_IRQ, until, 0);
        (console.in_a_row, console.looks) = (0, LOOKS_MOST);
        console.receive(bits);
        let mut answered = answers(&mut replies, &mut session, &mut console);
        if let Some(from) = &mut disk_answers {
            answered |= disk_news(from, &mut session, &mut console);
        }
        if answered {
            deadline = now().saturating_add(patience);
            pause_ends = now().saturating_add(info.tsc_hz / PAUSES);
        } else if session.pauses() {
            if now() >= pause_ends {
                session.go_on(&mut console);
                deadline = now().saturating_add(patience);
            }
        } else if session.busy() && !session.waits_for_disks() && now() >= deadline {
            session.expired(&mut console);
        }
    }
}

/// Gives the disk component's answers to the session. True when there were any.
fn disk_news(from: &mut Inbox, session: &mut Session, console: &mut Console) -> bool {
    let mut any = false;
    // One is asked for at a time: more than fit were never asked for.
    for _ in 0..from.ring.capacity() {
        match from.ring.pop() {
            Ok(Some(message)) => {
                any = true;
                session.disk_reply(&message, console);
            }
            Ok(None) => break,
            Err(RingError::EpochChanged) => {
                any = true;
                session.disks_reset(console);
            }
            Err(RingError::Corrupt) => {
                // A reset meanwhile is found at the next look.
                let _ = from.ring.skip_all();
            }
        }
    }
    any
}

/// Gives the core's answers to the session. True when there were any.
fn answers(replies: &mut Inbox, session: &mut Session, console: &mut Console) -> bool {
    let mut any = false;
    for _ in 0..replies.ring.capacity() {
        match replies.ring.pop() {
            Ok(Some(message)) => {
                any = true;
                session.reply(&message, console);
            }
            Ok(None) => break,
            Err(RingError::EpochChanged) => {
                any = true;
                session.reset(console);
            }
            Err(RingError::Corrupt) => {
                // A reset meanwhile is found at the next look.
                let _ = replies.ring.skip_all();
            }
        }
    }
    any
}
