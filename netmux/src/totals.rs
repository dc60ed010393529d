//! What the demultiplexer counts beside the counters of each VM.

/// Counts since this demultiplexer was started. All count frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Came from the wire.
    pub received: u64,
    /// Of these, meant for none of the VMs.
    pub to_nobody: u64,
    /// Of these, copied to every VM.
    pub to_all: u64,
    /// Taken from VMs and given to the wire.
    pub sent: u64,
    /// Taken from VMs and given to other VMs.
    pub switched: u64,
    /// Of these, dropped since their sender held too much of the receiver's ring ([`crate::Holdings`]).
    pub crowded: u64,
    /// Taken from VMs and refused ([`crate::egress::Cause`]).
    pub refused: u64,
    /// For VMs that are out: answers and refusals that were given for them,
    pub absent_answered: u64,
    /// frames that they need not see,
    pub absent_ignored: u64,
    /// frames that called one in,
    pub absent_called: u64,
    /// frames that were held until it came,
    pub absent_delivered: u64,
    /// and frames that were dropped: for want of a place, or because it did not come in time.
    pub absent_dropped: u64,
    /// Rings whose indices or records made no sense.
    pub corrupt: u64,
}

impl core::fmt::Display for Totals {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Totals { received, to_nobody, to_all, sent, switched, crowded, refused, corrupt, .. } = self;
        write!(out, "received={received} to-nobody={to_nobody} to-all={to_all} ")?;
        write!(out, "sent={sent} switched={switched} crowded={crowded} refused={refused} corrupt={corrupt} ")?;
        let Totals { absent_answered, absent_ignored, absent_called, absent_delivered, absent_dropped, .. } = self;
        write!(out, "absent: answered={absent_answered} ignored={absent_ignored} called={absent_called} ")?;
        write!(out, "delivered={absent_delivered} dropped={absent_dropped}")
    }
}
