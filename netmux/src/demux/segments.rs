//! Records that hold several segments: the NIC has them whole if it cuts and the wire is where they go; else one frame is cut each time.

use super::{Demux, Host, work_of};
use crate::drivers::Nic;
use crate::egress::{self, Cause, Route, Sender};
use crate::frame::DmaFrame;
use crate::policy::Discipline;
use crate::segments::{HEADERS_MOST, Segments, sum};
use abi::nic::MAX_FRAME;
use abi::vm::Seat;
use ring::Record;

impl<C: Nic, H: Host, D: Discipline> Demux<C, H, D> {
    /// Takes what is next of a record of several segments from the VM in `seat`, by way of the transmit buffer at `offset` where it is a
    /// frame.
    #[inline(never)]
    #[cold]
    pub(super) fn serve_segments(&mut self, seat: Seat, offset: usize) {
        let Some(port) = self.ports.get_mut(seat) else { return };
        // The same that was looked at just now.
        let Ok(Some(record)) = port.nic.tx.peek() else { return self.charge(0) };
        let mut bytes = [0; HEADERS_MOST];
        let known = record.len.min(HEADERS_MOST);
        // Each time anew: the guest can change them meanwhile, and then sends what else it might have sent.
        let read = port.nic.tx.read(&record, 0, &mut bytes[..known]);
        let whole = match read {
            Some(()) => Segments::of(&bytes, record.len, record.segment),
            None => Err(Cause::Malformed),
        };
        let from = usize::from(port.cut);
        let whole = match whole {
            Ok(whole) if whole.data_at(from) > 0 => whole,
            Ok(_) => return self.refuse_segments(seat, Cause::Malformed),
            Err(cause) => return self.refuse_segments(seat, cause),
        };
        if from == 0 && self.hand_over(seat, &record, &whole) {
            return;
        }
        let Some(port) = self.ports.get_mut(seat) else { return };
        let (memory, len) = (self.nic.memory(), whole.data_at(from));
        let at = offset + whole.headers();
        let data = port.nic.tx.payload(&record).and_then(|record| record.sub(whole.headers() + from, len));
        let copied = data.is_some_and(|data| data.copy_to(0, &memory, at, len).is_some());
        let (head, headers) = whole.frame(from, len, sum(&memory, at, len));
        let written = memory.write(offset, &head[..headers]).is_some();
        let is_last = from + len >= whole.data();
        port.cut = if is_last { 0 } else { u16::try_from(from + len).unwrap_or(u16::MAX) };
        let is_there = match is_last {
            true => port.nic.tx.pass().is_ok(),
            // A ring that was reset meanwhile is empty.
            false => port.nic.tx.check_epoch().is_ok(),
        };
        let frame = DmaFrame { memory, offset, len: headers + len };
        if copied && written && is_there {
            self.dispatch_cut(seat, frame);
        } else if is_there {
            self.refuse(seat, Cause::Malformed);
        }
        self.touch(seat);
        self.work += work_of(frame.len);
        self.charge(frame.len);
    }

    /// Drops a record, or what is left of it.
    fn refuse_segments(&mut self, seat: Seat, cause: Cause) {
        if let Some(port) = self.ports.get_mut(seat) {
            port.cut = 0;
            if port.nic.tx.pass().is_ok() {
                self.refuse(seat, cause);
            }
        }
        self.touch(seat);
        self.work += work_of(MAX_FRAME);
        self.charge(MAX_FRAME);
    }

    /// Gives a whole record to the NIC, to be cut there. False, and nothing is done, where the NIC does not cut or has no room, the record is
    /// not for the wire alone, or the turn has not as much left: then it is cut here.
    fn hand_over(&mut self, seat: Seat, record: &Record, whole: &Segments) -> bool {
        // For those that are out, each frame is looked at.
        if !self.nic.cuts() || !self.doors.is_empty() || !self.nic.link_up() {
            return false;
        }
        let frames = whole.count();
        let last = whole.headers() + whole.data_at((frames - 1) * whole.segment());
        let full = self.discipline.cost(whole.headers() + whole.segment());
        let most = i32::try_from(frames - 1).unwrap_or(i32::MAX);
        let cost = full.saturating_mul(most).saturating_add(self.discipline.cost(last));
        let buffers = u16::try_from(frames).unwrap_or(u16::MAX);
        let may = |serving: super::Serving| serving.may(buffers) && self.discipline.affords(serving.left(), cost);
        if !self.serving.is_some_and(may) {
            return false;
        }
        let bytes = record.len + (frames - 1) * whole.headers();
        if self.serving.is_some_and(|serving| serving.is_limited()) {
            let now = self.host.now();
            if !self.discipline.may_spend(seat, bytes, now) {
                return false;
            }
        }
        let Some(offset) = self.nic.buffer_of(record.len) else { return false };
        let Some(port) = self.ports.get_mut(seat) else { return false };
        let memory = self.nic.memory();
        let (head, headers) = whole.for_nic();
        let sender = Sender { seat, mac: port.mac, ipv4: port.ipv4 };
        if port.nic.tx.copy_to(record, &memory, offset).is_none() || memory.write(offset, &head[..headers]).is_none() {
            return false;
        }
        let frame = DmaFrame { memory, offset, len: record.len.min(MAX_FRAME) };
        match egress::check(&frame, sender, &self.ports) {
            Ok(Route::Outside) => {}
            Ok(_) => return false,
            Err(cause) => {
                self.refuse_segments(seat, cause);
                return true;
            }
        }
        let Some(port) = self.ports.get_mut(seat) else { return false };
        if port.nic.tx.pass().is_ok() {
            let bytes = record.len + (frames - 1) * headers;
            port.count_segments(frames, bytes);
            self.nic.send_segments(record.len, headers, record.segment);
            self.totals.sent += u64::try_from(frames).unwrap_or(0);
            self.work += work_of(bytes);
        }
        self.touch(seat);
        self.spend(cost, buffers, bytes);
        true
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
