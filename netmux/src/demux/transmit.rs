//! The way out of the demultiplexer: whose turn it is, what the turn has left, and what becomes of each frame.

use super::{BATCH, Demux, Host, SAID_LEAST, work_of};
use crate::drivers::Nic;
use crate::egress::{self, Cause, Route, Sender};
use crate::frame::DmaFrame;
use crate::policy::{Discipline, More, Next};
use crate::ports::{FRAME_WORK, Ring};
use abi::nic::{MAX_FRAME, MIN_FRAME};
use abi::vm::Seat;
use ring::PeekError;

/// What a turn has left to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing that can be done before something happens.
    Nothing,
    /// Something.
    Work,
    /// Something that may not leave before this time.
    Until(u64),
}

/// A VM's turn to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    pub(super) seat: Seat,
    /// What is left of its allowance,
    left: i32,
    /// and of its buffers.
    buffers: u16,
    /// There is a limit to what its tenant may send.
    limited: bool,
}

impl Serving {
    /// What is left of its allowance.
    pub(super) fn left(&self) -> i32 {
        self.left
    }

    /// Whether there is a limit to what its tenant may send.
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whether it may fill so many buffers.
    pub(super) fn may(&self, buffers: u16) -> bool {
        buffers <= self.buffers
    }
}

impl<C: Nic, H: Host, D: Discipline> Demux<C, H, D> {
    /// From the VMs to the wire and to other VMs.
    pub(super) fn transmit(&mut self, until: u64) -> Left {
        for _ in 0..BATCH {
            if let Some(flood) = self.tx_flood {
                self.tx_flood = self.flood(flood, until);
                if self.tx_flood.is_some() {
                    return Left::Work;
                }
                self.put_out_on_wire(flood.frame.len);
            }
            let seat = match self.next_sender() {
                Ok(seat) => seat,
                Err(left) => return left,
            };
            let Some(offset) = self.nic.buffer() else {
                return if self.nic.interrupt_on_space() { Left::Work } else { Left::Nothing };
            };
            self.serve(seat, offset);
            if self.host.now() >= until {
                break;
            }
        }
        let left = self.tx_flood.is_some() || self.serving.is_some() || !self.discipline.is_empty();
        match self.discipline.due() {
            _ if left => Left::Work,
            Some(time) => Left::Until(time),
            None => Left::Nothing,
        }
    }

    /// The VM whose turn it is, or what is left when it is nobody's.
    #[inline]
    fn next_sender(&mut self) -> Result<Seat, Left> {
        if let Some(serving) = self.serving {
            return Ok(serving.seat);
        }
        let now = self.host.now();
        match self.discipline.next(now) {
            Next::Turn(turn) => {
                let limited = self.discipline.is_limited(turn.seat);
                let (seat, left, buffers) = (turn.seat, turn.allowance, turn.buffers);
                self.serving = Some(Serving { seat, left, buffers, limited });
                Ok(turn.seat)
            }
            // Of those who lose their turns to their tenants, some at a time.
            Next::At(time) if time <= now => Err(Left::Work),
            Next::At(time) => Err(Left::Until(time)),
            Next::Nobody => Err(Left::Nothing),
        }
    }

    /// Spends a part of the allowance and a buffer; the turn ends when nothing is left of either.
    #[inline]
    pub(super) fn charge(&mut self, len: usize) {
        let cost = self.discipline.cost(len);
        self.spend(cost, 1, len);
    }

    /// Spends so much of the allowance, and so many buffers, for so many bytes.
    #[inline]
    pub(super) fn spend(&mut self, cost: i32, buffers: u16, bytes: usize) {
        if let Some(serving) = &mut self.serving {
            serving.left = serving.left.saturating_sub(cost);
            serving.buffers = serving.buffers.saturating_sub(buffers);
            let is_over = serving.left <= 0 || serving.buffers == 0;
            let (seat, limited) = (serving.seat, serving.limited);
            if limited && !self.spend_for_tenant(seat, bytes) || is_over {
                self.finish(More::Perhaps);
            }
        }
    }

    /// The tenant of the VM in `seat` has sent so many bytes. False where it may not send more now.
    #[cold]
    #[inline(never)]
    fn spend_for_tenant(&mut self, seat: Seat, bytes: usize) -> bool {
        let now = self.host.now();
        self.discipline.spend(seat, bytes, now)
    }

    /// Ends the turn, if it is anybody's.
    #[inline]
    fn finish(&mut self, more: More) {
        if let Some(Serving { seat, left, .. }) = self.serving.take() {
            let now = self.host.now();
            self.discipline.finish(seat, left, more, now);
        }
    }

    /// Takes one frame from the VM in `seat` by way of the transmit buffer at `offset`.
    #[inline]
    fn serve(&mut self, seat: Seat, offset: usize) {
        let Some(port) = self.ports.get_mut(seat) else {
            self.leave_queue(seat);
            return;
        };
        match port.nic.tx.peek() {
            Ok(Some(record)) => {
                // One that is too long is dropped, and costs no more than one that is not.
                let len = record.len.min(MAX_FRAME);
                let cost = self.discipline.cost(len);
                if self.serving.is_some_and(|serving| !self.discipline.affords(serving.left, cost)) {
                    return self.finish(More::Frame(cost));
                }
                if record.segment != 0 {
                    return self.serve_segments(seat, offset);
                }
                let memory = self.nic.memory();
                let fits = (MIN_FRAME..=MAX_FRAME).contains(&record.len);
                let copied = fits && port.nic.tx.copy_to(&record, &memory, offset).is_some();
                let whole = port.nic.tx.pass().is_ok();
                if copied && whole {
                    let frame = DmaFrame { memory, offset, len: record.len };
                    self.dispatch(seat, frame);
                } else if whole {
                    self.refuse(seat, Cause::Malformed);
                }
                self.touch(seat);
                self.work += work_of(len);
                self.charge(len);
            }
            Ok(None) => {
                // It has kicked for nothing, or more often than it had to.
                port.add_caused(FRAME_WORK);
                let unsaid = port.unsaid();
                self.work += FRAME_WORK;
                if unsaid >= SAID_LEAST {
                    self.touch(seat);
                }
                let Some(port) = self.ports.get_mut(seat) else { return };
                if port.nic.tx.prepare_wait() {
                    self.finish(More::Nothing);
                } else {
                    self.charge(0);
                }
            }
            // The ring is empty now, and this end knows.
            Err(PeekError::EpochChanged) => {
                port.cut = 0;
                self.charge(0);
            }
            Err(PeekError::NoPage(page)) if self.get_page(seat, Ring::Transmit, page) => self.charge(0),
            Err(PeekError::Corrupt | PeekError::NoPage(_)) => {
                // What follows a record that makes no sense has no beginning: all of it goes. So does what lies in a page for
                // which there is no frame: nobody can have stored anything there.
                if let Some(port) = self.ports.get_mut(seat) {
                    let _ = port.nic.tx.skip_all();
                    port.cut = 0;
                }
                self.blame(seat, "transmit");
                self.refuse(seat, Cause::Malformed);
                self.touch(seat);
                self.charge(MAX_FRAME);
            }
        }
    }

    /// As [`Demux::dispatch`], for callers that are not in a hurry.
    #[inline(never)]
    pub(super) fn dispatch_cut(&mut self, seat: Seat, frame: DmaFrame) {
        self.dispatch(seat, frame);
    }

    /// Checks a copied frame and sends it where it belongs.
    // Once in the loop over frames, and once for all others.
    #[inline(always)]
    fn dispatch(&mut self, seat: Seat, frame: DmaFrame) {
        let Some(port) = self.ports.get_mut(seat) else { return };
        let sender = Sender { seat, mac: port.mac, ipv4: port.ipv4 };
        let sent = match egress::check(&frame, sender, &self.ports) {
            Ok(Route::Outside) if !self.doors.is_empty() && self.for_absent(&frame, Some(seat)) => true,
            Ok(Route::Outside) => self.put_out_on_wire(frame.len),
            Ok(Route::Inside(to)) => {
                self.totals.switched += 1;
                self.pass_on(seat, to, &frame)
            }
            Ok(Route::Both(to)) => {
                self.totals.switched += 1;
                self.pass_on(seat, to, &frame) | self.put_out_on_wire(frame.len)
            }
            Ok(Route::Everybody) => {
                self.tx_flood = self.begin_flood(frame, Some(seat));
                if self.tx_flood.is_some() {
                    self.totals.switched += 1;
                    true
                } else {
                    self.put_out_on_wire(frame.len)
                }
            }
            Err(cause) => {
                self.refuse(seat, cause);
                return;
            }
        };
        if let Some(port) = self.ports.get_mut(seat) {
            if sent { port.count_sent(frame.len) } else { port.count_full() }
        }
    }

    /// Gives the transmit buffer to the NIC. False when the link is down: a NIC without link keeps its buffers, and the
    /// frames between VMs would wait behind those.
    #[inline]
    pub(super) fn put_out_on_wire(&mut self, len: usize) -> bool {
        let up = self.nic.link_up();
        if up {
            self.nic.send(len);
            self.totals.sent += 1;
        }
        up
    }
}
