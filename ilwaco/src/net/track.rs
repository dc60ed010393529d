//! What is known of a connection beside its socket: sequence numbers as they are on the wire, and what they say about a
//! segment before the socket sees it (RFC 5961).

use super::congestion::Congestion;
use super::cookie::Offer;
use super::frame::{ACK, FIN, Mac, RST, SYN, Segment, TCP};
use super::losses::Losses;

/// The least time between two answers to segments that may be forged, for each connection (RFC 5961 7).
const CHALLENGE_US: u64 = 500_000;
/// The least time between two answers to probes whether we are there.
const PROBE_US: u64 = 50_000;
/// How far from what is expected a sequence number can lie and still be the peer's: no window here is larger.
const WINDOW: u32 = 65_536;
/// Acknowledgements of the same that mean a loss (RFC 5681 3.2), and the least that a socket waits for one, in microseconds.
const DUPLICATES: u8 = 3;
/// Segments that congestion windows are counted in, in bytes, whatever peers say of theirs.
const LEAST_SEGMENT: u16 = 64;
const MOST_SEGMENT: u16 = 1460;
const LEAST_RTO: u64 = 1_000_000;

/// What is to be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The socket has it.
    Pass,
    /// Nothing.
    Drop,
    /// The peer is told what is expected of it: whoever forged the segment cannot answer that.
    Challenge,
}

/// What a peer has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its largest segment.
    pub(super) segment: u16,
    /// By how many bits what it says of its window is shifted.
    pub(super) scale: u8,
    /// Its window, in bytes.
    pub(super) window: u32,
}

impl Peer {
    /// Of a peer that has said nothing (RFC 9293 3.7.1).
    const UNKNOWN: Peer = Peer { segment: 536, scale: 0, window: 0 };

    /// Of a peer that has offered this; `window` as it stands in a segment that is no SYN.
    pub(super) fn offering(offer: Offer, window: u16) -> Peer {
        let scale = offer.scale.unwrap_or(0);
        Peer { segment: offer.segment, scale, window: u32::from(window) << scale }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Track {
    /// What the socket's sequence numbers are behind those on the wire.
    pub(super) shift: u32,
    /// What the peer has acknowledged, and the end of what was sent.
    pub(super) sent: (u32, u32),
    /// What we have acknowledged, and the end of what has arrived without a gap; `None` before the peer's SYN.
    pub(super) received: Option<(u32, u32)>,
    /// The window that was offered last.
    pub(super) window: u16,
    /// Our end was sent: nothing comes behind the end of what was sent.
    pub(super) finished: bool,
    pub(super) peer: Peer,
    /// There is content that has not arrived, of which the socket knows nothing; it starts with this number.
    pub(super) hold: Option<u32>,
    /// Where the peer's frames come from.
    pub(super) hop: Option<Mac>,
    /// Bytes of IP packets that the path carries.
    pub(super) mtu: u16,
    /// What the peer's window is lowered to when something was lost.
    pub(super) congestion: Congestion,
    /// Since when the first byte on its way has waited for an acknowledgement.
    waits: u64,
    /// Acknowledgements of the same, one after the other, while something is on its way.
    duplicates: u8,
    /// What got lost of it, and what that says of the path.
    losses: Losses,
    /// When the last challenge was sent, and when a probe was last answered.
    challenged: Option<u64>,
    probed: Option<u64>,
    /// When the peer last made progress, and when anything was heard of it.
    pub(super) heard: u64,
    pub(super) met: u64,
}

impl Track {
    /// Of a connection that we start; the socket's numbers and those on the wire differ by `shift`.
    pub(super) fn opening(shift: u32, mtu: u16, now: u64) -> Track {
        Track {
            shift,
            sent: (0, 0),
            received: None,
            window: 0,
            finished: false,
            peer: Peer::UNKNOWN,
            hold: None,
            hop: None,
            mtu,
            congestion: Congestion::NONE,
            waits: now,
            duplicates: 0,
            losses: Losses::NONE,
            challenged: None,
            probed: None,
            heard: now,
            met: now,
        }
    }

    /// Of a connection whose peer has shown that it got our SYN.
    pub(super) fn opened(shift: u32, heard: &Segment, offer: Offer, mtu: u16, now: u64) -> Track {
        Track {
            sent: (heard.ack, heard.ack),
            peer: Peer::offering(offer, heard.window),
            received: Some((heard.seq, heard.seq)),
            hop: Some(heard.hop),
            ..Track::opening(shift, mtu, now)
        }
    }

    /// Looks at a segment that has arrived.
    #[inline]
    pub(super) fn judge(&mut self, segment: &Segment, now: u64) -> Verdict {
        // Until then, the socket knows what to do.
        let Some((acknowledged, end)) = self.received else { return Verdict::Pass };
        if segment.flags & (SYN | RST) != 0 {
            return if segment.has(RST) {
                // RFC 5961 3.2. What has arrived may not have been acknowledged yet, so there are two right numbers.
                let exact = segment.seq == acknowledged || segment.seq == end;
                match exact {
                    true => Verdict::Pass,
                    false if segment.seq.wrapping_sub(acknowledged) < WINDOW => self.challenge(now),
                    false => Verdict::Drop,
                }
            } else {
                // RFC 5961 4.2.
                self.challenge(now)
            };
        }
        if !segment.has(ACK) {
            return Verdict::Drop;
        }
        // RFC 5961 5.2: not of what was not sent, and not older than a window.
        let (una, next) = self.sent;
        if next.wrapping_sub(segment.ack) > next.wrapping_sub(una).wrapping_add(WINDOW) {
            return self.challenge(now);
        }
        self.met = now;
        let fresh = segment.ack.wrapping_sub(una);
        if fresh <= next.wrapping_sub(una) {
            let window = core::mem::replace(&mut self.peer.window, u32::from(segment.window) << self.peer.scale);
            if fresh != 0 {
                self.sent.0 = segment.ack;
                if self.losses != Losses::NONE {
                    self.mtu = self.losses.settle(segment.ack, next, self.mtu);
                }
                self.advance(fresh, next.wrapping_sub(una), now);
                self.heard = now;
            } else if una != next {
                self.nothing_new(window, segment.len, now);
            }
        }
        if segment.seq == end.wrapping_sub(1) && segment.len == 0 && !segment.has(FIN) && acknowledged == end {
            // A probe whether we are there (RFC 9293 3.8.4).
            if self.probed.is_none_or(|last| now >= last + PROBE_US) {
                self.probed = Some(now);
                return Verdict::Challenge;
            }
            return Verdict::Drop;
        }
        if segment.seq == end && segment.span() != 0 && segment.len <= WINDOW {
            self.received = Some((acknowledged, end.wrapping_add(segment.span())));
            self.heard = now;
        }
        Verdict::Pass
    }

    /// An acknowledgement of what was acknowledged before, while something is on its way: several are the sign of a loss, if they are the same in
    /// all (RFC 5681 2). `window`: the peer's before that. Into a closed one go probes, which no loss is seen by.
    #[cold]
    fn nothing_new(&mut self, window: u32, len: u32, now: u64) {
        if window == 0 || self.peer.window == 0 {
            self.waits = now;
        } else if window == self.peer.window && len == 0 {
            self.duplicates = self.duplicates.saturating_add(1);
        }
    }

    /// So many bytes of `flight` were acknowledged for the first time.
    #[inline]
    fn advance(&mut self, fresh: u32, flight: u32, now: u64) {
        self.waits = now;
        if self.duplicates != 0 || self.congestion != Congestion::NONE {
            self.mend(fresh, flight);
        }
    }

    #[cold]
    fn mend(&mut self, fresh: u32, flight: u32) {
        if core::mem::take(&mut self.duplicates) >= DUPLICATES {
            self.congestion.mended(flight, self.segment());
        } else {
            self.congestion.progress(fresh, self.segment());
        }
    }

    /// Bytes of a full segment, and no less than a path carries that is worth the name.
    #[inline]
    fn segment(&self) -> u32 {
        self.peer.segment.clamp(LEAST_SEGMENT, MOST_SEGMENT).into()
    }

    fn challenge(&mut self, now: u64) -> Verdict {
        if self.challenged.is_some_and(|last| now < last + CHALLENGE_US) {
            return Verdict::Drop;
        }
        self.challenged = Some(now);
        Verdict::Challenge
    }

    /// Gives a packet that the socket has written the numbers of the wire, and remembers them.
    #[inline]
    pub(super) fn shift_out(&mut self, packet: &mut [u8], is_v4: bool, now: u64) {
        let (start, protocol) = if is_v4 { (20, packet.get(9)) } else { (40, packet.get(6)) };
        if protocol != Some(&TCP) {
            return;
        }
        let bytes = packet.len();
        let Some(header) = packet.get_mut(start..).and_then(|segment| segment.first_chunk_mut::<20>()) else { return };
        let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (seq, ack, window) = (field(4), field(8), u16::from_be_bytes([header[14], header[15]]));
        let flags = header[13];
        self.finished |= flags & FIN != 0;
        let seq = match self.hold {
            // A peer that takes nothing expects what it has not taken, whatever it was probed with.
            Some(_) if flags & RST != 0 && self.peer.window == 0 => self.sent.0,
            // Beside content, the socket has nothing to say that takes a number.
            Some(_) => self.sent.1,
            None => seq.wrapping_add(self.shift),
        };
        header[4..8].copy_from_slice(&seq.to_be_bytes());
        let data = (bytes - start).saturating_sub(usize::from(header[12] >> 4) * 4);
        let span = u32::try_from(data).unwrap_or(0) + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let next = seq.wrapping_add(span);
        if self.received.is_none() && flags & SYN != 0 {
            self.sent = (seq, next);
        } else if next.wrapping_sub(self.sent.1) <= WINDOW {
            if self.sent.0 == self.sent.1 {
                self.waits = now;
            }
            self.sent.1 = next;
        } else if seq == self.sent.0 {
            // The first of what is on its way: once for each time that all of it is sent again.
            // Of several segments in one packet, none was larger than the path.
            self.lost_large(bytes.min(self.mtu.into()), is_v4);
        }
        if flags & (ACK | RST) == ACK {
            let end = match self.received {
                Some((_, end)) if end.wrapping_sub(ack) < WINDOW => end,
                _ => ack,
            };
            self.received = Some((ack, end));
            self.window = window;
        }
    }

    /// When the peer last acknowledged something, in microseconds.
    #[inline]
    pub(super) fn acknowledged_at(&self) -> u64 {
        self.waits
    }

    /// Bytes that are on their way.
    #[inline]
    pub(super) fn flight(&self) -> u32 {
        let (una, next) = self.sent;
        next.wrapping_sub(una)
    }

    /// The first moment at which the retransmission timer can run out, where something is on its way.
    #[inline]
    pub(super) fn least_timeout(&self) -> u64 {
        if self.flight() == 0 { u64::MAX } else { self.waits + LEAST_RTO }
    }

    /// The retransmission timer runs out. True when the congestion window is another one by that.
    pub(super) fn times_out(&mut self) -> bool {
        self.hold.is_none() && self.congestion.timed_out(self.flight(), self.segment())
    }

    /// The retransmission timer runs out: what was sent first and what was sent again have both been lost, if this is the second time. True when
    /// the path is believed not to carry their size, from this on.
    pub(super) fn gives_size_up(&mut self, is_v4: bool) -> bool {
        let bytes = usize::try_from(self.flight()).unwrap_or(usize::MAX).saturating_add(40).min(self.mtu.into());
        self.hold.is_none() && self.losses.are_enough_with(bytes) && self.lost_large(bytes, is_v4)
    }

    /// All that has arrived was acknowledged.
    #[inline]
    pub(super) fn owes_nothing(&self) -> bool {
        self.received.is_some_and(|(acknowledged, received)| acknowledged == received)
    }

    /// A packet of this many bytes has to be sent again, for want of any acknowledgement. True when the path is believed not to carry its size, from
    /// this on.
    #[cold]
    pub(super) fn lost_large(&mut self, bytes: usize, is_v4: bool) -> bool {
        let before = self.mtu;
        self.mtu = self.losses.add(bytes, is_v4, self.sent.1, before);
        self.mtu != before
    }

    /// Bytes of IP packets that the path is believed to carry. Packets may be smaller for a while, until it is known what they are lost for.
    pub(super) fn believed_mtu(&self) -> u16 {
        self.losses.believed(self.mtu)
    }

    /// True when a message about a packet of ours can be true: a packet with this sequence number is on its way (RFC 5927 4.1).
    pub(super) fn in_flight(&self, seq: u32) -> bool {
        let (una, next) = self.sent;
        seq.wrapping_sub(una) < next.wrapping_sub(una)
    }
}
