//! What a program sends in large pieces: by the stack itself, from where it lies, and beside the connection's socket.
//!
//! A socket's buffer is fixed when it is made, and everything in it is copied twice. So documents do not pass through it. While there is
//! content, the socket knows of nothing that was sent behind the number at which the content starts; what it hears and says is moved
//! by the length of the content when that has arrived.

use super::buffers::SEND_BYTES;
use super::bulk::Bulk;
use super::capacity::{secures_bytes, secures_promised};
use super::connection::ACK_DELAY_US;
use super::content::{Content, Repeated};
use super::flight::Flight;
use super::frame::{ETHERNET_HEADER, FIN, PSH, RST, SYN, Segment, unmapped};
use super::headers::{self, Headers, MAX_RANGES, TCP_HEADER, ranges};
use super::place::Place;
use super::stack::Stack;
use super::stack_time::{due, stack_time};
use super::wire::Wire;
use super::{Error, checksum};
use core::task::Waker;
use smoltcp::socket::tcp::State;

/// Frames of one connection before the next one's turn.
const BATCH: usize = 16;
/// Copied bytes that a connection may hold, and how many are copied at once.
const MOST_COPIES: usize = 64 << 10;
const COPY: usize = 16 << 10;
/// What the content of a connection takes beside its bytes.
const STARTED: usize = size_of::<Bulk>() + Content::FEW_BYTES;

/// Bytes of a full segment of a connection.
fn segment_size(place: &Place) -> u32 {
    headers::segment_size(place.flow, &place.track).into()
}

impl Stack {
    /// Gives a connection `head` and, behind it, `body` to be sent. `None`: not before `waker` is woken.
    pub(super) fn send_content(
        &mut self,
        index: usize,
        head: &[u8],
        body: Repeated,
        waker: &Waker,
    ) -> Result<Option<()>, Error> {
        if !secures_promised(STARTED + head.len()) {
            return Err(Error::NoMemory);
        }
        if !self.start_content(index, waker)? {
            return Ok(None);
        }
        let held = self.places.get(index).and_then(|place| place.bulk.as_ref()).map_or(0, |bulk| bulk.content.own());
        if held > 0 && held + head.len() > MOST_COPIES {
            self.wait_for_content(index, MOST_COPIES / 2 - 1, waker)?;
            return Ok(None);
        }
        self.push_content(index, |content| {
            content.push_copy(head);
            content.push_constant(body);
        });
        Ok(Some(()))
    }

    /// Gives a connection bytes to be sent: its socket, or what goes beside it. How many it takes. `None`: not before `waker` is woken.
    #[inline]
    pub(super) fn write(&mut self, index: usize, bytes: &[u8], waker: &Waker) -> Result<Option<usize>, Error> {
        if (bytes.len() > SEND_BYTES || self.overflows(index))
            && let taken @ (None | Some(1..)) = self.send_copy(index, bytes, waker)?
        {
            return Ok(taken);
        }
        let socket = self.attempt(index).ok_or(Error::NotConnected)?.socket();
        match socket.send_slice(bytes) {
            Ok(0) => {
                socket.register_send_waker(waker);
                if let Some(place) = self.places.get_mut(index) {
                    (place.crowded, place.late.awaited) = (true, true);
                }
                Ok(None)
            }
            Ok(len) => {
                self.touch(index);
                Ok(Some(len))
            }
            Err(_) => Err(Error::ConnectionReset),
        }
    }

    /// Gives a connection bytes to be sent, of which it takes a copy. How many of them: none if it does not hold content, and its
    /// socket can have them. `None`: not before `waker` is woken.
    #[cold]
    fn send_copy(&mut self, index: usize, bytes: &[u8], waker: &Waker) -> Result<Option<usize>, Error> {
        let Some(place) = self.places.get_mut(index) else { return Err(Error::NotConnected) };
        let len = bytes.len().min(COPY);
        let has_room = secures_bytes(len + STARTED);
        if !place.has_content() {
            if (bytes.len() <= SEND_BYTES && !place.crowded) || !has_room {
                return Ok(Some(0));
            }
            if !self.start_content(index, waker)? {
                return Ok(None);
            }
        }
        let Some(bulk) = self.places.get_mut(index).and_then(|place| place.bulk.as_mut()) else {
            return Err(Error::ConnectionReset);
        };
        if bulk.closing {
            return Err(Error::ConnectionReset);
        }
        let held = bulk.content.own();
        if !has_room {
            // When all has arrived, the socket can have them.
            return Ok(self.wait_for_content(index, 0, waker)?.then_some(0));
        }
        if held > 0 && held + len > MOST_COPIES {
            self.wait_for_content(index, MOST_COPIES / 2 - 1, waker)?;
            return Ok(None);
        }
        self.push_content(index, |content| content.push_copy(&bytes[..len]));
        Ok(Some(len))
    }

    /// Whether no more than `enough` bytes of a connection's content are left. If not, `waker` is woken when that is so.
    pub(super) fn wait_for_content(&mut self, index: usize, enough: usize, waker: &Waker) -> Result<bool, Error> {
        self.catch_up(index);
        let Some(place) = self.places.get_mut(index) else { return Err(Error::NotConnected) };
        place.reading = false;
        let Some(endpoint) = &mut place.endpoint else { return Err(Error::NotConnected) };
        let socket = endpoint.socket();
        let Some(bulk) = place.bulk.as_mut().filter(|_| place.track.hold.is_some()) else {
            return if socket.state() == State::Closed { Err(Error::ConnectionReset) } else { Ok(true) };
        };
        if socket.state() == State::Closed {
            return Err(Error::ConnectionReset);
        }
        if bulk.content.len() <= enough {
            return Ok(true);
        }
        bulk.waker = Some((enough, waker.clone()));
        // The socket knows of ends that the content does not see.
        socket.register_send_waker(waker);
        Ok(false)
    }

    /// True while what a connection is to send does not go into its socket.
    #[inline]
    fn overflows(&self, index: usize) -> bool {
        self.places.get(index).is_some_and(|place| place.crowded || place.has_content())
    }

    /// Bytes of a connection's content that have not arrived.
    pub(super) fn content_len(&self, index: usize) -> usize {
        let bulk = self.places.get(index).and_then(|place| place.bulk.as_ref());
        bulk.map_or(0, |bulk| bulk.content.len())
    }

    /// Nothing follows what the program has given a connection. False when there is no content that this has to wait for.
    pub(super) fn close_behind_content(&mut self, index: usize) -> bool {
        let waits = self.places.get_mut(index).is_some_and(Place::close_behind_content);
        if waits {
            self.touch_content(index);
        }
        waits
    }

    fn push_content(&mut self, index: usize, push: impl FnOnce(&mut Content)) {
        if let Some(bulk) = self.places.get_mut(index).and_then(|place| place.bulk.as_mut()) {
            push(&mut bulk.content);
            bulk.flight.set_len(bulk.content.len());
        }
        self.touch_content(index);
    }

    /// Makes a connection ready for content. False when it is not before `waker` is woken.
    fn start_content(&mut self, index: usize, waker: &Waker) -> Result<bool, Error> {
        self.catch_up(index);
        let Some(place) = self.places.get_mut(index) else { return Err(Error::NotConnected) };
        place.reading = false;
        let Some(endpoint) = &mut place.endpoint else { return Err(Error::NotConnected) };
        let socket = endpoint.socket();
        if !socket.may_send() {
            return Err(Error::ConnectionReset);
        }
        if place.has_content() {
            return if place.bulk.as_ref().is_some_and(|bulk| bulk.closing) {
                Err(Error::ConnectionReset)
            } else {
                Ok(true)
            };
        }
        let Some(endpoint) = &mut place.endpoint else { return Err(Error::NotConnected) };
        let socket = endpoint.socket();
        if socket.send_queue() != 0 {
            // It comes first, and has to arrive, too.
            socket.register_send_waker(waker);
            place.late.awaited = true;
            self.touch(index);
            return Ok(false);
        }
        let (_, start) = place.track.sent;
        let mss = segment_size(place);
        let window = place.track.peer.window;
        let bulk = place.bulk.get_or_insert_with(|| {
            let flight = Flight::new(start, mss, self.now);
            alloc::boxed::Box::new(Bulk {
                content: Content::default(),
                flight,
                closing: false,
                ended: false,
                waker: None,
            })
        });
        bulk.flight.resume(start, window, self.now);
        place.track.sent = (start, start);
        place.track.hold = Some(start);
        self.acknowledge_by_content(index);
        Ok(true)
    }

    /// The content's segments say what the socket was about to acknowledge. The socket believes that it has done so.
    fn acknowledge_by_content(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        if !place.track.owes_nothing() {
            self.say_nothing(index);
        }
    }

    /// The socket believes that it has sent what it was about to send, which the content's segments say or have said.
    fn say_nothing(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        let Some(endpoint) = &mut place.endpoint else { return };
        if !self.device.can_send() {
            return;
        }
        let later = stack_time(self.now + ACK_DELAY_US);
        let mut wire = Wire::of(&mut self.device, &mut self.link, self.now, &mut place.track).mute();
        self.iface.poll_egress(later, &mut wire, &mut endpoint.set);
        place.socket_due = due(self.iface.poll_at(stack_time(self.now), &endpoint.set));
    }

    /// A segment for a connection with content has arrived and was found good. True when that is all that there was to it.
    #[inline(never)]
    pub(super) fn hear_content(&mut self, index: usize, segment: &Segment) -> bool {
        let place = &mut self.places[index];
        let Some(bulk) = &mut place.bulk else { return false };
        if segment.has(SYN | RST) {
            return false;
        }
        let (said, count) = match self.device.peek() {
            Some(frame) if frame.get(segment.start + 12).is_some_and(|byte| byte >> 4 > 5) => {
                let end = segment.start + usize::from(frame[segment.start + 12] >> 4) * 4;
                ranges(frame.get(segment.start + TCP_HEADER..end).unwrap_or(&[]))
            }
            _ => ([(0, 0); MAX_RANGES], 0),
        };
        let window = place.track.peer.window;
        // An end has a number, too, of which the flight knows nothing.
        let (_, next) = bulk.flight.sent();
        let ack = if bulk.ended && segment.ack == next.wrapping_add(1) { next } else { segment.ack };
        let fresh = bulk.flight.heard(ack, window, &said[..count], segment.span() == 0, self.now);
        if fresh > 0 {
            bulk.content.skip(usize::try_from(fresh).unwrap_or(0));
            bulk.flight.set_len(bulk.content.len());
            bulk.has_progressed();
            if bulk.content.len() == 0 {
                self.end_content(index);
                return false;
            }
        }
        self.touch_content(index);
        segment.span() == 0
    }

    /// All content has arrived: the socket has its turn again, and learns so by the segment that says it.
    fn end_content(&mut self, index: usize) {
        let place = &mut self.places[index];
        let (Some(start), Some(bulk)) = (place.track.hold.take(), &mut place.bulk) else { return };
        let (end, _) = bulk.flight.sent();
        place.track.shift = place.track.shift.wrapping_add(end.wrapping_sub(start));
        bulk.content.clear();
        bulk.wake();
        place.crowded = false;
        let ended = core::mem::take(&mut bulk.ended);
        if core::mem::take(&mut bulk.closing)
            && let Some(endpoint) = &mut place.endpoint
        {
            endpoint.socket().close();
            if ended && place.track.owes_nothing() {
                self.say_nothing(index);
            }
        }
        self.touch(index);
    }

    /// Sends what can be sent of a connection's content. False when the ring is full.
    #[inline(never)]
    pub(super) fn send_segments(&mut self, index: usize) -> bool {
        let place = &mut self.places[index];
        let is_over = place.endpoint.as_mut().is_none_or(|endpoint| endpoint.socket().state() == State::Closed);
        if is_over {
            // The socket says the last word, with the number that the peer expects.
            place.forget_content();
            return true;
        }
        let mss = segment_size(place);
        let mut headers = Headers::new(&self.link.own, place.flow, &place.track);
        let Some(bulk) = &mut place.bulk else { return true };
        let lost = bulk.flight.expire(self.now);
        if lost > 0 {
            let bytes = headers.len - ETHERNET_HEADER + usize::try_from(lost.min(mss)).unwrap_or(0);
            if place.track.lost_large(bytes, unmapped(place.flow.remote).is_some()) {
                self.paths.remember(place.flow.remote, place.track.believed_mtu(), self.now);
            }
        }
        let mss = segment_size(place);
        let Some(bulk) = &mut place.bulk else { return true };
        bulk.flight.set_mss(mss);
        // Only where the NIC cuts: to add up constants, whose sums are known here, would cost the demultiplexer more than it saves.
        let cut = headers::cut_size(place.flow, &place.track).filter(|_| self.device.nic_cuts());
        let most = cut.map_or(0, |cut| {
            self.device.most_segments().saturating_sub(headers.len) / usize::from(cut) * usize::from(cut)
        });
        for _ in 0..BATCH {
            if !self.device.can_send() {
                return false;
            }
            let Some((seq, len)) = bulk.flight.segment(self.now).or_else(|| bulk.end_alone()) else { return true };
            let len = match most > 0 && len == mss && self.device.has_room(headers.len + most) {
                true => bulk.flight.join(seq, len, u32::try_from(most).unwrap_or(0), self.now),
                false => len,
            };
            let (una, next) = bulk.flight.sent();
            let at = usize::try_from(seq.wrapping_sub(una)).unwrap_or(0);
            let len = usize::try_from(len).unwrap_or(0);
            let Bulk { content, closing, ended, .. } = &mut **bulk;
            let flags = match at + len == content.len() {
                true if *closing => {
                    *ended = true;
                    FIN | PSH
                }
                true => PSH,
                false => 0,
            };
            let segment = cut.filter(|&cut| len > usize::from(cut)).unwrap_or(0);
            let head = headers.of(seq, len, flags);
            let (link, hop, now) = (&mut self.link, place.track.hop, self.now);
            self.device.compose(head.len() + len, segment, |frame| {
                let (start, data) = frame.split_at_mut(head.len());
                start.copy_from_slice(head);
                if segment == 0 {
                    let sum = content.copy(at, data);
                    checksum::fill_segment(frame, head.len(), sum);
                } else {
                    content.place(at, data);
                }
                link.address(frame, hop, now)
            });
            place.track.sent.1 = next.wrapping_add(u32::from(*ended));
        }
        // There may be more when others had their turn.
        self.touch_content(index);
        true
    }
}
