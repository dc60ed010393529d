//! Rings of packet records: a header and up to some kilobytes in consecutive slots ([`abi::ring::PacketHeader`]).

use crate::end::{ConsumerEnd, ProducerEnd, checked};
use crate::error::{AttachError, RingError};
use crate::mem::{ByteMemory, SlotArray};
use crate::message::split;
use crate::packet_error::{PeekError, ReserveError};
use crate::pages::Pages;
use abi::ring::{
    PACKET_FRAME, PACKET_HEADER_BYTES, PACKET_PAD, PACKET_SEGMENTS, PAGE_SLOTS, PacketHeader, SLOT_BYTES, packet_slots,
};
use core::sync::atomic::Ordering;

/// Slots of a record with `len` bytes, where a record may take `most` slots.
#[inline]
fn slots_of(len: usize, most: u32) -> Option<(u32, PacketHeader)> {
    let len_field = u16::try_from(len).ok()?;
    let slots = u16::try_from(packet_slots(len)).ok()?;
    let header = PacketHeader { len: len_field, kind: PACKET_FRAME, slots, segment: 0 };
    (u32::from(slots) <= most).then_some((slots.into(), header))
}

/// The end that puts packets in.
pub struct PacketProducer<M: ByteMemory> {
    end: ProducerEnd<M>,
    slots: M::Slots,
    bytes: M,
    pages: Pages,
    /// The slots from the tail up to this index are free, there, and in one page.
    limit: u32,
}

impl<M: ByteMemory> PacketProducer<M> {
    /// Attaches to the ring whose header is at the start of `header` and whose `count` slots are at the start of `slots`.
    pub fn attach(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let bytes = slots.clone();
        let (header, slots) = checked(header, slots, count)?;
        let end = ProducerEnd::attach_wrapping(header, count);
        let limit = end.tail;
        Ok(PacketProducer { end, slots, bytes, pages: Pages::ALL, limit })
    }

    /// As [`PacketProducer::attach`], where none of the slots' pages is there before it is given. At most 1,024 slots, which
    /// begin with a page.
    pub fn attach_sparse(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let mut producer = PacketProducer::attach(header, slots, count)?;
        producer.pages = Pages::none(count).ok_or(AttachError::SlotCount)?;
        Ok(producer)
    }

    /// Attaches to the ring at the start of `ring`, whose slots follow its header.
    pub fn attach_contiguous(ring: &M, count: u32) -> Result<Self, AttachError> {
        let (header, slots) = split(ring, count)?;
        PacketProducer::attach(&header, &slots, count)
    }

    /// Finds space for a packet of `len` bytes. Dropping the reservation gives it up.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, M>, ReserveError> {
        let capacity = self.end.capacity();
        // At most half of the ring: with the pad in front of it, which is shorter than the record, it fits into an empty ring
        // wherever the index stands.
        let (needed, header) = slots_of(len, capacity / 2).ok_or(ReserveError::TooLong)?;
        let mut pad = self.pad(needed);
        self.check_epoch()?;
        if self.limit.wrapping_sub(self.end.tail) < pad + needed {
            pad = self.look(needed)?;
        }
        // A consumer that sees a word we write from here on sees the epoch that we have seen, too.
        M::fence(Ordering::Release);
        if pad != 0 {
            // Below `needed`, which fits into 16 bits.
            let slots = u16::try_from(pad).map_err(|_| ReserveError::TooLong)?;
            let header = PacketHeader { len: 0, kind: PACKET_PAD, slots, segment: 0 };
            self.slots.store_first(self.end.tail, zerocopy::transmute!(header));
        }
        let record = self.end.tail.wrapping_add(pad);
        self.slots.store_first(record, zerocopy::transmute!(header));
        let offset = (record & (capacity - 1)) as usize * SLOT_BYTES + PACKET_HEADER_BYTES;
        Ok(Reservation { producer: self, record, next: record.wrapping_add(needed), offset, len })
    }

    /// Slots of the pad before a record of `needed` slots.
    #[inline]
    fn pad(&self, needed: u32) -> u32 {
        let capacity = self.end.capacity();
        let to_end = capacity - (self.end.tail & (capacity - 1));
        if needed > to_end { to_end } else { 0 }
    }

    /// Looks for space for a record of `needed` slots: at the consumer's index, and at the pages. Goes on at slot 0 when the ring
    /// is empty and the record would leave the first page. Returns the slots of the pad before the record.
    #[cold]
    fn look(&mut self, needed: u32) -> Result<u32, ReserveError> {
        self.limit = self.end.tail;
        let capacity = self.end.capacity();
        let position = self.end.tail & (capacity - 1);
        let used = self.end.used();
        if used == Ok(0) && position != 0 && position + needed > PAGE_SLOTS {
            self.end.wrap();
        }
        self.limit = self.end.tail;
        used?;
        let (pad, free) = (self.pad(needed), self.end.free());
        if free < pad + needed {
            return Err(ReserveError::Full);
        }
        let (tail, record) = (self.end.tail, self.end.tail.wrapping_add(pad));
        let missing = |index: u32, slots: u32| self.pages.missing(index & (capacity - 1), slots);
        if let Some(page) = missing(tail, pad.min(1)).or_else(|| missing(record, needed)) {
            return Err(ReserveError::NoPage(page));
        }
        // What shares a page with the record's end needs no look.
        let page_end = (record.wrapping_add(needed - 1) | (PAGE_SLOTS - 1)).wrapping_add(1);
        self.limit = tail.wrapping_add(free.min(page_end.wrapping_sub(tail)));
        Ok(pad)
    }

    /// True when there is space for a packet of `len` bytes. Touches no slot.
    #[inline]
    pub fn has_room(&mut self, len: usize) -> Result<bool, RingError> {
        let Some((needed, _)) = slots_of(len, self.end.capacity() / 2) else { return Ok(false) };
        self.check_epoch()?;
        let slots = self.pad(needed) + needed;
        if self.limit.wrapping_sub(self.end.tail) >= slots {
            return Ok(true);
        }
        let used = self.end.used();
        if used.is_err() {
            self.limit = self.end.tail;
        }
        Ok(self.end.capacity() - used? >= slots)
    }

    /// Gives this end a page of the slots, counted from 0.
    pub fn give_page(&mut self, page: u32) {
        self.pages.give(page);
    }

    /// Takes the pages of these bits away again. The ring should be empty: what lies in them is lost.
    pub fn take_pages(&mut self, pages: u32) {
        self.pages.take(pages);
        self.limit = self.end.tail;
    }

    /// Bit `i` for each page `i` that this end was given.
    pub fn pages(&self) -> u32 {
        self.pages.given()
    }

    /// The page in which the next record begins, unless it goes on at slot 0.
    pub fn page(&self) -> u32 {
        (self.end.tail & (self.end.capacity() - 1)) / PAGE_SLOTS
    }

    /// Puts one packet in and shows it to the consumer.
    pub fn push(&mut self, packet: &[u8]) -> Result<(), ReserveError> {
        let mut reservation = self.reserve(packet.len())?;
        // The reservation is as long as the packet.
        let _ = reservation.write(0, packet);
        reservation.commit();
        Ok(())
    }

    /// Shows everything that was staged to the consumer.
    #[inline]
    pub fn publish(&mut self) {
        self.end.publish();
    }

    /// Bytes of the longest packet that fits.
    pub fn max_len(&self) -> usize {
        let bytes = (self.end.capacity() / 2) as usize * SLOT_BYTES;
        bytes.saturating_sub(PACKET_HEADER_BYTES).min(u16::MAX.into())
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u32 {
        self.end.capacity()
    }

    /// Slots that were written since the ring was reset, wrapping; the staged ones included.
    pub fn written(&self) -> u32 {
        self.end.tail
    }

    /// Slots that the consumer has not released yet, the staged ones included.
    pub fn in_flight(&mut self) -> Result<u32, RingError> {
        self.check_epoch()?;
        let used = self.end.used();
        if used.is_err() {
            self.limit = self.end.tail;
        }
        used
    }

    /// Reports a reset of the ring without doing anything else.
    #[inline]
    pub fn check_epoch(&mut self) -> Result<(), RingError> {
        let result = self.end.check_epoch();
        if result.is_err() {
            self.limit = self.end.tail;
        }
        result
    }

    /// After [`PacketProducer::publish`]: whether the consumer sleeps, so that its doorbell must be rung.
    #[inline]
    #[must_use]
    pub fn consumer_waits(&self) -> bool {
        self.end.consumer_waits()
    }

    /// Announces that this end is about to sleep until a packet of `len` bytes fits. True: it does not, sleep. False: it does
    /// (or the ring was reset), go on; the announcement is withdrawn.
    #[must_use]
    pub fn prepare_wait(&mut self, len: usize) -> bool {
        let capacity = self.end.capacity();
        // A packet that never fits does not let the caller sleep: the next `reserve` says so.
        let Some((needed, _)) = slots_of(len, capacity / 2) else { return false };
        self.end.prepare_wait(self.pad(needed) + needed)
    }

    /// Withdraws the announcement. To be called after waking up.
    #[inline]
    pub fn cancel_wait(&mut self) {
        self.end.cancel_wait();
    }
}

/// Space for one packet, not yet visible to the consumer. What is not written keeps the bytes that the ring held before.
pub struct Reservation<'a, M: ByteMemory> {
    producer: &'a mut PacketProducer<M>,
    record: u32,
    next: u32,
    offset: usize,
    len: usize,
}

impl<M: ByteMemory> Reservation<'_, M> {
    /// Bytes of the packet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a packet without bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes bytes from the packet's byte `offset` on; `None` where they reach beyond its end.
    #[inline]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        self.within(offset, bytes.len())?;
        self.producer.bytes.write(self.offset + offset, bytes)
    }

    /// Copies `len` bytes of `from` to the packet's byte `offset`; `None` where they reach beyond either.
    #[inline]
    pub fn copy_from(&mut self, offset: usize, from: &M, from_offset: usize, len: usize) -> Option<()> {
        self.within(offset, len)?;
        from.copy_to(from_offset, &self.producer.bytes, self.offset + offset, len)
    }

    /// It holds several packets, of which whoever takes it makes them, with `segment` bytes of data each, not zero
    /// ([`abi::ring::PACKET_SEGMENTS`]).
    pub fn cut(&mut self, segment: u16) {
        // As it was reserved.
        if let Some((_, header)) = slots_of(self.len, u32::MAX) {
            let header = PacketHeader { kind: PACKET_SEGMENTS, segment, ..header };
            self.producer.slots.store_first(self.record, zerocopy::transmute!(header));
        }
    }

    /// The packet's bytes as a memory of their own.
    pub fn payload(&self) -> Option<M> {
        self.producer.bytes.sub(self.offset, self.len)
    }

    /// Shows the packet, and everything staged before it, to the consumer.
    #[inline]
    pub fn commit(self) {
        self.producer.end.tail = self.next;
        self.producer.end.publish();
    }

    /// Leaves the packet in the ring; the consumer sees it with the next [`PacketProducer::publish`].
    #[inline]
    pub fn stage(self) {
        self.producer.end.tail = self.next;
    }

    fn within(&self, offset: usize, len: usize) -> Option<()> {
        (len <= self.len && offset <= self.len - len).then_some(())
    }
}

/// A packet that lies in the ring. Its length is checked; its bytes are whatever the producer writes there, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset of the packet's first byte in the slots.
    pub offset: usize,
    /// Bytes of the packet.
    pub len: usize,
    /// Of several packets in one, the bytes of data in each, as the producer says; 0 for one packet.
    pub segment: u16,
}

/// The end that takes packets out.
///
/// A packet is looked at with [`PacketConsumer::peek`], copied, and given back with [`PacketConsumer::advance`]. Whoever does
/// not trust the producer judges the copy, never the bytes in the ring.
pub struct PacketConsumer<M: ByteMemory> {
    end: ConsumerEnd<M, true>,
    slots: M::Slots,
    bytes: M,
    pages: Pages,
    /// The record that was last peeked at and the index behind it: its header is read only once.
    peeked: Option<(Record, u32)>,
}

impl<M: ByteMemory> PacketConsumer<M> {
    /// Attaches to the ring whose header is at the start of `header` and whose `count` slots are at the start of `slots`.
    pub fn attach(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let bytes = slots.clone();
        let (header, slots) = checked(header, slots, count)?;
        Ok(PacketConsumer { end: ConsumerEnd::attach(header, count), slots, bytes, pages: Pages::ALL, peeked: None })
    }

    /// As [`PacketConsumer::attach`], where none of the slots' pages is there before it is given. At most 1,024 slots, which
    /// begin with a page.
    pub fn attach_sparse(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let mut consumer = PacketConsumer::attach(header, slots, count)?;
        consumer.pages = Pages::none(count).ok_or(AttachError::SlotCount)?;
        Ok(consumer)
    }

    /// Attaches to the ring at the start of `ring`, whose slots follow its header.
    pub fn attach_contiguous(ring: &M, count: u32) -> Result<Self, AttachError> {
        let (header, slots) = split(ring, count)?;
        PacketConsumer::attach(&header, &slots, count)
    }

    /// The next packet, which stays in the ring; `Ok(None)` when there is none. The same one until it is given back.
    /// After [`RingError::Corrupt`], [`PacketConsumer::skip_all`] is the way on.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record>, PeekError> {
        if let Some((record, _)) = self.peeked {
            self.check_epoch()?;
            return Ok(Some(record));
        }
        if let Found::Record(found) = self.look_at(true)? {
            return Ok(found);
        }
        // Behind a pad the record stands at the start of the slots, where no second pad can be.
        match self.look_at(false)? {
            Found::Record(found) => Ok(found),
            Found::Pad => Err(PeekError::Corrupt),
        }
    }

    /// Filled slots, all of them in pages that this end was given; looks at the producer's index only when there is none by
    /// the last look.
    #[inline]
    fn filled(&mut self) -> Result<u32, PeekError> {
        match self.end.known() {
            0 => {
                let filled = self.end.look()?;
                let position = self.end.head & (self.end.capacity() - 1);
                match self.pages.missing(position, filled) {
                    None => Ok(filled),
                    Some(page) => {
                        self.end.know(0);
                        Err(PeekError::NoPage(page))
                    }
                }
            }
            known => Ok(known),
        }
    }

    /// Gives this end a page of the slots, counted from 0.
    pub fn give_page(&mut self, page: u32) {
        self.pages.give(page);
    }

    /// Takes the pages of these bits away again. The ring should be empty: what lies in them is lost.
    pub fn take_pages(&mut self, pages: u32) {
        self.pages.take(pages);
        self.end.know(0);
        self.peeked = None;
    }

    /// Bit `i` for each page `i` that this end was given.
    pub fn pages(&self) -> u32 {
        self.pages.given()
    }

    /// The page in which the next record begins, unless it goes on at slot 0.
    pub fn page(&self) -> u32 {
        (self.end.head & (self.end.capacity() - 1)) / PAGE_SLOTS
    }

    #[inline]
    fn look_at(&mut self, pad_allowed: bool) -> Result<Found, PeekError> {
        let filled = self.filled()?;
        if filled == 0 {
            return Ok(Found::Record(None));
        }
        let capacity = self.end.capacity();
        let position = self.end.head & (capacity - 1);
        let to_end = capacity - position;
        let [word] = self.slots.load_start(self.end.head);
        self.end.confirm()?;
        let header: PacketHeader = zerocopy::transmute!(word);
        let (len, slots) = (usize::from(header.len), u32::from(header.slots));
        let next = self.end.head.wrapping_add(slots);
        let fits = slots <= filled && slots <= to_end;
        let is_plain = header.segment == 0;
        match header.kind {
            PACKET_FRAME if fits && is_plain && packet_slots(len) == usize::from(header.slots) => {
                let record = Record { offset: position as usize * SLOT_BYTES + PACKET_HEADER_BYTES, len, segment: 0 };
                self.peeked = Some((record, next));
                Ok(Found::Record(Some(record)))
            }
            PACKET_PAD if fits && is_plain && pad_allowed && len == 0 && slots == to_end && position != 0 => {
                self.end.head = next;
                self.end.release();
                Ok(Found::Pad)
            }
            PACKET_SEGMENTS if fits && !is_plain && packet_slots(len) == usize::from(header.slots) => {
                let offset = position as usize * SLOT_BYTES + PACKET_HEADER_BYTES;
                let record = Record { offset, len, segment: header.segment };
                self.peeked = Some((record, next));
                Ok(Found::Record(Some(record)))
            }
            _ => Err(PeekError::Corrupt),
        }
    }

    /// Copies bytes of `record` from its byte `from` on; `None` where it is not the record that [`PacketConsumer::peek`] gave
    /// last, or it is too short.
    #[inline]
    pub fn read(&self, record: &Record, from: usize, to: &mut [u8]) -> Option<()> {
        let offset = self.within(record, from, to.len())?;
        self.bytes.read(offset, to)
    }

    /// Copies the whole of `record` to `to_offset` of another memory, once; `None` where it is not the record that
    /// [`PacketConsumer::peek`] gave last, or does not fit.
    #[inline]
    pub fn copy_to(&self, record: &Record, to: &M, to_offset: usize) -> Option<()> {
        let offset = self.within(record, 0, record.len)?;
        self.bytes.copy_to(offset, to, to_offset, record.len)
    }

    /// The bytes of `record` as a memory of their own, for a consumer that trusts the producer and reads in place.
    pub fn payload(&self, record: &Record) -> Option<M> {
        let offset = self.within(record, 0, record.len)?;
        self.bytes.sub(offset, record.len)
    }

    fn within(&self, record: &Record, from: usize, len: usize) -> Option<usize> {
        let (peeked, _) = self.peeked?;
        (peeked == *record && len <= peeked.len && from <= peeked.len - len).then_some(peeked.offset + from)
    }

    /// Gives the packet that [`PacketConsumer::peek`] gave last back to the producer. After
    /// [`RingError::EpochChanged`] its bytes, and any copy of them, may be mixed with others: drop them.
    #[inline]
    pub fn advance(&mut self) -> Result<(), RingError> {
        self.pass()?;
        self.end.release();
        Ok(())
    }

    /// As [`PacketConsumer::advance`], but the slots go back with the next [`PacketConsumer::release`].
    #[inline]
    pub fn pass(&mut self) -> Result<(), RingError> {
        let peeked = self.peeked.take();
        self.end.confirm()?;
        if let Some((_, next)) = peeked {
            self.end.head = next;
        }
        Ok(())
    }

    /// Gives the slots of everything that was passed back to the producer.
    #[inline]
    pub fn release(&mut self) {
        self.end.release();
    }

    /// Drops everything up to what the producer claims to have written. The way on after [`RingError::Corrupt`].
    pub fn skip_all(&mut self) -> Result<(), RingError> {
        self.peeked = None;
        self.end.skip_all()
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u32 {
        self.end.capacity()
    }

    /// Filled slots. 0 means that there is no packet.
    pub fn available(&mut self) -> Result<u32, RingError> {
        self.check_epoch()?;
        let known = self.end.known();
        let filled = self.end.look()?;
        // Whether the pages of the rest are there is for `peek` to see.
        self.end.know(known);
        Ok(filled)
    }

    /// Reports a reset of the ring without doing anything else.
    #[inline]
    pub fn check_epoch(&mut self) -> Result<(), RingError> {
        let result = self.end.check_epoch();
        if result.is_err() {
            self.peeked = None;
        }
        result
    }

    /// After [`PacketConsumer::release`]: whether the producer sleeps, so that its doorbell must be rung.
    #[inline]
    #[must_use]
    pub fn producer_waits(&self) -> bool {
        self.end.producer_waits()
    }

    /// Announces that this end is about to sleep until there is a packet. True: still empty, sleep. False: there is one (or the
    /// ring was reset), go on; the announcement is withdrawn.
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        let known = self.end.known();
        let empty = self.end.prepare_wait();
        // Whether the pages of the rest are there is for `peek` to see.
        self.end.know(known);
        empty
    }

    /// Withdraws the announcement. To be called after waking up.
    #[inline]
    pub fn cancel_wait(&mut self) {
        self.end.cancel_wait();
    }
}

/// What stands at the consumer's index.
enum Found {
    /// A packet, or nothing.
    Record(Option<Record>),
    /// A pad, which has been skipped.
    Pad,
}
