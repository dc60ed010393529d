//! What is known of the machine's clock, and what is done when a server of the time says another time.

use alloc::borrow::ToOwned;
use alloc::string::String;

/// From this on a clock is set and not slewed, in nanoseconds; what NTP does (RFC 5905, 4).
const STEP_NS: u64 = 128_000_000;
/// Beyond this, in nanoseconds, a clock that was right once is not changed: the server is wrong, or somebody else answers (RFC 5905, A.5.5.1).
const PANIC_NS: u64 = 1_000_000_000_000;
/// What is known of the machine's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The server that answered last, empty as long as none did.
    pub server: String,
    /// How much later it was there than here, in nanoseconds, before that was mended.
    pub offset_ns: i64,
    /// Answers that were believed.
    pub answers: u64,
    /// An offset that is too large for a clock that was right, and was seen once.
    suspect: bool,
}

/// What is done about an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// The clock is set.
    Step,
    /// It goes faster or slower for a while.
    Slew,
    /// Nothing, until another answer says the same.
    Wait,
    /// Nothing: that cannot be.
    Refuse,
}

impl Clock {
    /// What is to be done about an offset that a server says, in nanoseconds.
    pub fn mending(&self, offset_ns: i64) -> Mending {
        match offset_ns.unsigned_abs() {
            ..STEP_NS => Mending::Slew,
            _ if self.answers == 0 => Mending::Step,
            PANIC_NS.. => Mending::Refuse,
            _ if self.suspect => Mending::Step,
            _ => Mending::Wait,
        }
    }

    /// A server has said this, and that was done about it.
    pub fn note(&mut self, server: &str, offset_ns: i64, mending: Mending) {
        self.suspect = mending == Mending::Wait;
        if mending != Mending::Refuse {
            self.answers += 1;
            (self.server, self.offset_ns) = (server.to_owned(), offset_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_set_at_first_slewed_later_and_not_led_astray() {
        let hour = 3_600_000_000_000;
        let mut clock = Clock::default();
        assert_eq!(clock.mending(hour), Mending::Step);
        assert_eq!(clock.mending(-hour), Mending::Step);
        assert_eq!(clock.mending(127_000_000), Mending::Slew);
        clock.answers = 1;
        assert_eq!(clock.mending(-127_000_000), Mending::Slew);
        assert_eq!(clock.mending(129_000_000), Mending::Wait);
        clock.suspect = true;
        assert_eq!(clock.mending(129_000_000), Mending::Step);
        assert_eq!((clock.mending(hour), clock.mending(i64::MIN)), (Mending::Refuse, Mending::Refuse));
    }
}
