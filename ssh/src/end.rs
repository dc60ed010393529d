//! Why a connection ends.

use core::fmt;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// One of [`crate::reason`]; 0 where the client has ended it.
    pub reason: u32,
    /// The same in words.
    pub why: &'static str,
}

impl End {
    pub(crate) const fn new(reason: u32, why: &'static str) -> End {
        End { reason, why }
    }

    /// The client does not follow the protocol.
    pub(crate) const fn protocol(why: &'static str) -> End {
        End::new(crate::number::reason::PROTOCOL_ERROR, why)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl core::error::Error for End {}
