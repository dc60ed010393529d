//! The outputs of the log: COM1 (115200 8N1), the screen (EGA text or a framebuffer), port 0xe9 (Bochs and QEMU's debug
//! console).
//!
//! Interrupts are off in the core and one CPU runs, so the lock is only ever taken twice by a fault inside of a log call:
//! then the line goes to the devices past the lock, rather than into a deadlock.

use super::framebuffer::{Framebuffer, Glyphs, Mode};
use super::history;
use super::queue::{ENTRIES, Queue};
use super::serial::{Line, Serial, Uart};
use crate::memory::PhysAddr;
use abi::boot::Screen;
use abi::boot::screen::{PIXELS, TEXT};
use abi::log::Record;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use x86::io::{inb, outb};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
/// Bytes that the 16550's transmit queue takes when it is empty.
const FIFO: usize = 16;
const DEBUG_PORT: u16 = 0xe9;

const SCREEN: PhysAddr = PhysAddr::new(0xb8000);
const COLUMNS: usize = 80;
const ROWS: usize = 25;
const LIGHT_GREY: u16 = 0x0700;

/// Characters that a call of [`pump`] draws into a framebuffer.
const DRAWN_AT_ONCE: usize = 32;

/// Something is in `waiting` of the console.
static WAITING: AtomicBool = AtomicBool::new(false);

static CONSOLE: Mutex<Console> = Mutex::new(Console {
    serial: Serial::new(Com1),
    debug_port: false,
    screen: false,
    column: 0,
    framebuffer: Framebuffer::NONE,
    buffered: false,
    waiting: Queue::new(),
});

/// State of the outputs.
pub(super) struct Console {
    serial: Serial<Com1>,
    debug_port: bool,
    screen: bool,
    column: usize,
    framebuffer: Framebuffer,
    buffered: bool,
    /// What was said while the log is buffered.
    waiting: Queue,
}

fn read(port: u16) -> u8 {
    // SAFETY: reading these ports (UART, debug port) changes no memory.
    unsafe { inb(port) }
}

fn write(port: u16, value: u8) {
    // SAFETY: writing these ports (UART, debug port) changes no memory.
    unsafe { outb(port, value) }
}

/// Opens the serial line and port 0xe9. What another program has given to the serial line has left it.
pub(super) fn open_lines() {
    let mut console = CONSOLE.lock();
    // No interrupts; divisor 1; 8N1; queues on and empty; DTR, RTS and OUT2.
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 0x03), (2, 0x07), (4, 0x0b)] {
        write(COM1 + register, value);
    }
    console.serial.open();
    console.debug_port = read(DEBUG_PORT) == 0xe9;
}

/// Goes on with the screen as another program has left it.
///
/// # Safety
/// A framebuffer's pixels are mapped for good where `from` says, and nobody else uses them.
pub unsafe fn resume_screen(from: &Screen, glyphs: &'static Glyphs) {
    let Some(mut console) = CONSOLE.try_lock() else { return };
    console.screen = from.kind == TEXT;
    console.column = COLUMNS;
    if from.kind == PIXELS {
        let &Screen { pitch, width, height, colors, .. } = from;
        console.framebuffer.open(Mode { address: PhysAddr::new(0), pitch, width, height, colors }, glyphs);
        console.framebuffer.resume(&from.text);
        // SAFETY: upheld by the caller.
        unsafe { console.framebuffer.map(crate::memory::phys::index(from.pixels)) };
    }
}

/// Runs `f` with the console; past the lock when a fault in a log call has come here again.
pub(super) fn with_console<R>(f: impl FnOnce(&mut dyn fmt::Write) -> R) -> R {
    match CONSOLE.try_lock() {
        Some(mut console) => {
            console.make_room();
            f(&mut *console)
        }
        None => {
            let mut serial = Serial::new(Com1);
            serial.open();
            f(&mut Emergency(serial))
        }
    }
}

/// Says a record: keeps it until [`pump`] gives it to the outputs, or gives it to them now; past the lock as [`with_console`].
pub(super) fn record(at: u64, record: Record) {
    if let Some(mut console) = CONSOLE.try_lock()
        && console.buffered
    {
        console.make_room();
        console.waiting.record(at, record);
        WAITING.store(true, Ordering::Relaxed);
        return;
    }
    with_console(|console| {
        // Writing to the console does not fail.
        let _ = super::write_record(console, at, &record);
        let _ = console.write_str("\n");
    });
}

/// Lines wait in memory until [`pump`] gives them to the outputs, rather than the core for the serial line or whoever said
/// the line for the screen. Only when the memory for them is full the core waits.
pub fn set_buffered(on: bool) {
    if let Some(mut console) = CONSOLE.try_lock() {
        console.buffered = on;
    }
}

/// Gives the outputs what the serial line takes at once; one that takes nothing for a second is gone on without. Returns true while
/// something still waits. The run loop calls it when nothing else is to be done, and from time to time when something always is.
pub fn pump() -> bool {
    let Some(mut console) = CONSOLE.try_lock() else { return false };
    let nothing = console.waiting.is_empty();
    let line = if nothing { Line::Busy } else { console.serial.look(crate::tsc(), super::tsc_hz()) };
    if line != Line::Busy {
        for _ in 0..FIFO {
            let Some(byte) = console.waiting.pop() else { break };
            console.copy(byte);
            if line == Line::Ready { console.serial.put(byte) } else { console.serial.miss(byte) }
        }
    }
    if line == Line::Ready && console.waiting.is_empty() {
        console.serial.renew();
    }
    let waiting = console.framebuffer.paint(DRAWN_AT_ONCE) | !console.waiting.is_empty();
    WAITING.store(waiting, Ordering::Relaxed);
    let lost = console.serial.take_lost();
    drop(console);
    if lost != 0 {
        super::say(Record::SerialLost { lines: lost });
    }
    waiting || lost != 0
}

/// Whether something waits for [`pump`].
#[inline]
pub fn is_waiting() -> bool {
    WAITING.load(Ordering::Relaxed)
}

/// Whether there is room for many more lines. Lines that guests and components cause are left out or put off when there is
/// none, rather than the core wait for the serial line.
pub fn has_room() -> bool {
    has_less_than(ENTRIES / 4 * 3)
}

/// Whether there is room for lines of components, of which so many wait at most that those of the operator come soon.
pub fn has_room_for_components() -> bool {
    has_less_than(ENTRIES / 5)
}

fn has_less_than(entries: usize) -> bool {
    CONSOLE
        .try_lock()
        .is_none_or(|console| !console.buffered || !console.serial.is_present() || console.waiting.len() < entries)
}

/// Waits until everything has left the serial line, or that is found to be stuck.
pub fn flush() {
    if let Some(mut console) = CONSOLE.try_lock() {
        console.serial.renew();
        console.waiting.close();
        while let Some(byte) = console.waiting.pop() {
            console.out(byte);
        }
        console.framebuffer.paint(usize::MAX);
        console.serial.drain();
    }
}

/// COM1.
struct Com1;

impl Uart for Com1 {
    fn status(&mut self) -> u8 {
        read(LINE_STATUS)
    }

    fn put(&mut self, byte: u8) {
        write(COM1, byte);
    }
}

impl Console {
    fn byte(&mut self, byte: u8) {
        if !self.buffered {
            return self.out(byte);
        }
        self.waiting.byte(byte);
    }

    /// Whoever has something to say waits, as long as the serial line may be waited for, when all room is taken.
    fn make_room(&mut self) {
        while self.waiting.is_full()
            && let Some(first) = self.waiting.pop()
        {
            self.out(first);
        }
    }

    /// To all outputs; waits for the serial line, as long as that may be waited for.
    fn out(&mut self, byte: u8) {
        self.copy(byte);
        self.serial.send(byte);
    }

    /// To the outputs that take everything at once, and into the history.
    fn copy(&mut self, byte: u8) {
        history::keep(byte);
        if self.debug_port {
            write(DEBUG_PORT, byte);
        }
        // The serial line and port 0xe9 take UTF-8; the screens have other character sets.
        let shown = match byte {
            0..0x80 => byte,
            0xc0.. => b'-',
            _ => return,
        };
        if self.screen {
            self.show(shown);
        }
        self.framebuffer.show(shown);
    }

    fn show(&mut self, byte: u8) {
        match byte {
            b'\n' => self.column = COLUMNS,
            b'\r' => self.column = 0,
            _ => {
                if self.column >= COLUMNS {
                    scroll();
                    self.column = 0;
                }
                cell(ROWS - 1, self.column, byte);
                self.column += 1;
            }
        }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        if !self.buffered {
            self.framebuffer.paint(usize::MAX);
        }
        WAITING.store(self.buffered, Ordering::Relaxed);
        Ok(())
    }
}

/// The way past the lock: serial line and debug port only.
struct Emergency(Serial<Com1>);

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            write(DEBUG_PORT, byte);
            self.0.send(byte);
        }
        Ok(())
    }
}

fn cell(row: usize, column: usize, byte: u8) {
    if row < ROWS && column < COLUMNS {
        let at = SCREEN.as_ptr::<u16>().wrapping_add(row * COLUMNS + column);
        // SAFETY: inside the 80 x 25 cells of the text screen, which the direct map shows and only this file writes.
        unsafe { at.write_volatile(LIGHT_GREY | u16::from(byte)) };
    }
}

fn clear(row: usize) {
    for column in 0..COLUMNS {
        cell(row, column, b' ');
    }
}

fn scroll() {
    // Four cells at a time.
    let (screen, row) = (SCREEN.as_ptr::<u64>(), COLUMNS / 4);
    for at in row..ROWS * row {
        // SAFETY: as in `cell`.
        unsafe { screen.wrapping_add(at - row).write_volatile(screen.wrapping_add(at).read_volatile()) };
    }
    clear(ROWS - 1);
}

#[cfg(any(test, feature = "boot"))]
#[path = "screen.rs"]
pub(super) mod screen;
