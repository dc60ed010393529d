//! Who has asked something that is answered later.

/// A question that is answered later: its id, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u32,
    /// The core asks it, for a VM that controls the machine; else the monitor does.
    pub of_core: bool,
}
