//! What VMs hold of each other's receive rings: so that one that floods another leaves the wire, and all others, their share of it.
//!
//! The rule is that of dynamic thresholds (Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches",
//! IEEE/ACM Transactions on Networking, 1998): what a sender may hold grows and shrinks with what is free, so that
//! something is free for one that holds nothing; the less, the more others there are. How much that is says
//! [`Discipline::may_hold`](crate::policy::Discipline::may_hold).

use abi::vm::Seat;
use component::{Table, Tables};

/// A receive ring as a sender finds it, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// How many the receiver has read since the ring began, wrapping.
    pub read: u32,
    /// How many it has not read yet.
    pub used: u32,
    /// How many there are.
    pub capacity: u32,
}

impl Fill {
    /// Slots that are free.
    #[inline]
    pub fn free(self) -> u32 {
        self.capacity.saturating_sub(self.used)
    }
}

/// What a sender holds of a receiver's ring. Rings have fewer slots than 65,536.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    from: u16,
    to: u16,
    slots: u16,
    /// Of the [`Fill`] when this was written, the frame of that time included.
    used: u16,
    read: u16,
    /// The [`Pace`] of which `frames` are, and how many its sender brought in the one before.
    pace: u16,
    frames: u16,
    before: u16,
}

/// A receiver's recent past, as a sender finds it: time is divided into paces of some milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Which one it is, wrapping.
    pub number: u16,
    /// How many frames came for the receiver in the one before, from anybody.
    pub came: u32,
}

impl Held {
    /// What is left of it now. The receiver reads in order, so of what it has read since then the sender has had the same part as of all that
    /// was there.
    #[inline]
    fn left(self, read: u32) -> u32 {
        // Whoever has read more than there was has read all of it.
        #[allow(clippy::cast_possible_truncation)]
        let gone = u32::from((read as u16).wrapping_sub(self.read));
        let (slots, used) = (u32::from(self.slots), u32::from(self.used));
        if gone >= used { 0 } else { slots - slots * gone / used }
    }
}

/// Pairs of a sender and a receiver. One that is forgotten for another begins with nothing, so whoever would go on to flood a VM in this way
/// needs as many other receivers as the machine has seats.
pub struct Holdings {
    pairs: Table<Held>,
    /// The number of pairs, a power of two, less 1.
    mask: usize,
    /// What no guest knows, so that none can choose pairs that displace each other.
    salt: u32,
}

impl Holdings {
    /// What they take of [`abi::note::TableBytes::per_seat`].
    // Ten.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<Held>() as u32;

    /// Nobody holds anything.
    pub fn new(tables: &mut Tables) -> Self {
        let mut pairs: Table<Held> = tables.per_seat();
        let count: usize = pairs.capacity().checked_ilog2().map_or(0, |log2| 1 << log2);
        pairs.reach(count.saturating_sub(1));
        Holdings { pairs, mask: count.saturating_sub(1), salt: 0 }
    }

    /// Pairs are spread by this from now on.
    pub fn salt(&mut self, salt: u32) {
        self.salt = salt;
    }

    #[inline]
    fn place(&self, from: Seat, to: Seat) -> usize {
        let pair = u32::from(from.number()) << 16 | u32::from(to.number());
        // Multiplicative hashing (Knuth, volume 3, 6.4), twice: the salt is not to be seen from which pairs meet.
        let mixed = (pair ^ self.salt).wrapping_mul(0x9e37_79b1);
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b);
        usize::try_from(mixed >> 8).unwrap_or(0) & self.mask
    }

    /// A frame of so many `slots` is on its way from the first VM into the ring of the second, whose past is `pace`. Whether it may go: its sender holds no more
    /// than `most` slots with it, and has brought fewer frames in this pace than `may` says when so many came from all others in the one before. Only what
    /// goes counts, for both.
    #[inline]
    pub fn lets_in(
        &mut self,
        (from, to): (Seat, Seat),
        slots: u32,
        ring: Fill,
        most: u32,
        pace: Pace,
        may: impl FnOnce(u32) -> u32,
    ) -> bool {
        let place = self.place(from, to);
        let Some(held) = self.pairs.get_mut(place) else { return true };
        if (held.from, held.to) != (from.number(), to.number()) {
            *held = Held { from: from.number(), to: to.number(), pace: pace.number, ..Held::default() };
        }
        if held.pace != pace.number {
            held.before = if pace.number.wrapping_sub(held.pace) == 1 { held.frames } else { 0 };
            (held.pace, held.frames) = (pace.number, 0);
        }
        let left = held.left(ring.read);
        let goes = left + slots <= most && u32::from(held.frames) < may(pace.came.saturating_sub(held.before.into()));
        let added = if goes { slots } else { 0 };
        // What is no more than a ring's slots fits; a ring that claims more is its guest's own harm.
        let narrow = |slots: u32| u16::try_from(slots).unwrap_or(u16::MAX);
        (held.slots, held.used) = (narrow(left + added), narrow(ring.used + added));
        // Wraps as the index does.
        #[allow(clippy::cast_possible_truncation)]
        let read = ring.read as u16;
        held.read = read;
        held.frames = held.frames.saturating_add(u16::from(goes));
        goes
    }
}

#[cfg(test)]
#[path = "holdings_tests.rs"]
mod tests;
