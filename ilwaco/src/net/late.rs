//! What a connection's socket hears of later ([`super::stack_late`]).

/// What a connection's socket has not heard of, and why it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late {
    /// The last acknowledgement.
    pub(super) unheard: bool,
    /// Somebody waits for what the peer acknowledges.
    pub(super) awaited: bool,
    /// Its program sends without being asked, as was seen since the peer last sent something.
    pub(super) pushed: bool,
}

impl Late {
    /// Nothing, and for no reason.
    pub(super) const NOTHING: Late = Late { unheard: false, awaited: false, pushed: false };
}
