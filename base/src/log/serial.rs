//! The serial line's transmitter (16550), and how long the core waits for one whose peer does not read.
//!
//! Waiting is bounded in all, not for each byte: a byte that is not taken in time, or a peer that takes so little that the whole wait becomes
//! too long, makes the line [stuck](Serial::look). Nobody waits for a stuck line; what it should have got is counted in lines, and it is
//! used again as soon as it takes something.

/// Bit of the line status: the transmit queue is empty.
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Bit of the line status: everything has left.
const ALL_SENT: u8 = 1 << 6;
/// Looks at the line status before a byte counts as not taken.
const PATIENCE: u32 = 1_000_000;
/// The same for all bytes together, until a queue has been emptied; and what each byte that is taken gives back of it. An honest line needs 90 looks
/// for a byte where a look takes a microsecond, and some thousand in an emulator whose looks are fast.
const PATIENCE_IN_ALL: u32 = 16_000_000;
/// See [`PATIENCE_IN_ALL`].
const FOR_A_BYTE: u32 = 20_000;
/// Ticks without room after which the line is stuck: those of a second, or these where the rate is not known.
const STUCK_TICKS_UNKNOWN: u64 = 1 << 33;

/// The UART.
pub(super) trait Uart {
    /// Its line status.
    fn status(&mut self) -> u8;
    /// Puts a byte into the transmit queue.
    fn put(&mut self, byte: u8);
}

/// What may be done with the line now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It takes a transmit queue full.
    Ready,
    /// It is still at the last one.
    Busy,
    /// It is not there, or its peer does not read: others go on without it.
    Absent,
}

/// The transmitter.
pub(super) struct Serial<U> {
    uart: U,
    present: bool,
    stuck: bool,
    /// Looks that may still be spent on waiting.
    credit: u32,
    /// TSC at which it was last seen ready; 0: nobody has looked yet.
    ready_at: u64,
    /// Lines that it should have got and has not.
    lost: u32,
}

impl<U: Uart> Serial<U> {
    /// One that is not there.
    pub const fn new(uart: U) -> Self {
        Serial { uart, present: false, stuck: false, credit: PATIENCE_IN_ALL, ready_at: 0, lost: 0 }
    }

    /// It has been set up: a port without a UART reads as all ones.
    pub fn open(&mut self) {
        self.present = self.uart.status() != 0xff;
    }

    /// Whether there is one.
    pub const fn is_present(&self) -> bool {
        self.present
    }

    /// Waits until it has room, as long as it may, and sends a byte; one that is not taken counts with its line.
    pub fn send(&mut self, byte: u8) {
        if !self.present {
            return;
        }
        if self.wait(TRANSMITTER_EMPTY) {
            self.uart.put(byte);
            self.credit = self.credit.saturating_add(FOR_A_BYTE).min(PATIENCE_IN_ALL);
        } else {
            self.miss(byte);
        }
    }

    /// Sends a byte of a queue full, after [`Serial::look`] has said that there is room.
    pub fn put(&mut self, byte: u8) {
        self.uart.put(byte);
    }

    /// A byte is left out.
    pub fn miss(&mut self, byte: u8) {
        if self.present && byte == b'\n' {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// What may be done at the TSC `now`, of which a second has `hz`. Does not wait.
    pub fn look(&mut self, now: u64, hz: u64) -> Line {
        if !self.present {
            return Line::Absent;
        }
        if self.uart.status() & TRANSMITTER_EMPTY != 0 {
            (self.stuck, self.ready_at) = (false, now);
            return Line::Ready;
        }
        if self.ready_at == 0 {
            self.ready_at = now;
        }
        let most = if hz == 0 { STUCK_TICKS_UNKNOWN } else { hz };
        self.stuck |= now.saturating_sub(self.ready_at) > most;
        if self.stuck { Line::Absent } else { Line::Busy }
    }

    /// Its queue in memory has been emptied, or is about to be for the last time: it may be waited for anew.
    pub fn renew(&mut self) {
        self.credit = PATIENCE_IN_ALL;
    }

    /// Waits until everything has left, as long as it may.
    pub fn drain(&mut self) {
        if self.present {
            let _ = self.wait(ALL_SENT);
        }
    }

    /// How many lines were left out since this was asked last, once it takes lines again.
    pub fn take_lost(&mut self) -> u32 {
        if self.stuck { 0 } else { core::mem::take(&mut self.lost) }
    }

    fn wait(&mut self, bits: u8) -> bool {
        let most = if self.stuck { 1 } else { PATIENCE.min(self.credit).max(1) };
        for _ in 0..most {
            if self.uart.status() & bits != 0 {
                self.stuck = false;
                return true;
            }
            self.credit = self.credit.saturating_sub(1);
        }
        self.stuck = true;
        false
    }
}

#[cfg(test)]
#[path = "serial_test.rs"]
mod tests;
