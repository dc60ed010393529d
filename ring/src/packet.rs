//! Rings of packet records: a header and up to some kilobytes in consecutive slots ([`abi::ring::PacketHeader`]).

use crate::end::{ConsumerEnd, ProducerEnd, checked};
use crate::error::{AttachError, ReserveError, RingError};
use crate::mem::{ByteMemory, SlotArray};
use crate::message::split;
use abi::ring::{PACKET_FRAME, PACKET_HEADER_BYTES, PACKET_PAD, PacketHeader, SLOT_BYTES, packet_slots};

/// Slots of a record with `len` bytes, where a record may take `most` slots.
fn slots_of(len: usize, most: u32) -> Option<(u32, PacketHeader)> {
    let len_field = u16::try_from(len).ok()?;
    let slots = u16::try_from(packet_slots(len)).ok()?;
    let header = PacketHeader { len: len_field, kind: PACKET_FRAME, slots, reserved: 0 };
    (u32::from(slots) <= most).then_some((slots.into(), header))
}

/// The end that puts packets in.
pub struct PacketProducer<M: ByteMemory> {
    end: ProducerEnd<M>,
    slots: M::Slots,
    bytes: M,
}

impl<M: ByteMemory> PacketProducer<M> {
    /// Attaches to the ring whose header is at the start of `header` and whose `count` slots are at the start of `slots`.
    pub fn attach(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let bytes = slots.clone();
        let (header, slots) = checked(header, slots, count)?;
        Ok(PacketProducer { end: ProducerEnd::attach(header, count), slots, bytes })
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
        let to_end = capacity - (self.end.tail & (capacity - 1));
        let pad = if needed > to_end { to_end } else { 0 };
        self.end.room(pad + needed)?;
        if pad != 0 {
            // Below `needed`, which fits into 16 bits.
            let slots = u16::try_from(pad).map_err(|_| ReserveError::TooLong)?;
            let header = PacketHeader { len: 0, kind: PACKET_PAD, slots, reserved: 0 };
            self.slots.store_first(self.end.tail, zerocopy::transmute!(header));
        }
        let record = self.end.tail.wrapping_add(pad);
        self.slots.store_first(record, zerocopy::transmute!(header));
        let offset = (record & (capacity - 1)) as usize * SLOT_BYTES + PACKET_HEADER_BYTES;
        Ok(Reservation { producer: self, next: record.wrapping_add(needed), offset, len })
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

    /// Slots that the consumer has not released yet, the staged ones included.
    pub fn in_flight(&mut self) -> Result<u32, RingError> {
        self.end.check_epoch()?;
        self.end.used()
    }

    /// Reports a reset of the ring without doing anything else.
    #[inline]
    pub fn check_epoch(&mut self) -> Result<(), RingError> {
        self.end.check_epoch()
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
        let to_end = capacity - (self.end.tail & (capacity - 1));
        self.end.prepare_wait(if needed > to_end { to_end + needed } else { needed })
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
}

/// The end that takes packets out.
///
/// A packet is looked at with [`PacketConsumer::peek`], copied, and given back with [`PacketConsumer::advance`]. Whoever does
/// not trust the producer judges the copy, never the bytes in the ring.
pub struct PacketConsumer<M: ByteMemory> {
    end: ConsumerEnd<M>,
    slots: M::Slots,
    bytes: M,
    /// The record that was last peeked at and the index behind it: its header is read only once.
    peeked: Option<(Record, u32)>,
}

impl<M: ByteMemory> PacketConsumer<M> {
    /// Attaches to the ring whose header is at the start of `header` and whose `count` slots are at the start of `slots`.
    pub fn attach(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let bytes = slots.clone();
        let (header, slots) = checked(header, slots, count)?;
        Ok(PacketConsumer { end: ConsumerEnd::attach(header, count), slots, bytes, peeked: None })
    }

    /// Attaches to the ring at the start of `ring`, whose slots follow its header.
    pub fn attach_contiguous(ring: &M, count: u32) -> Result<Self, AttachError> {
        let (header, slots) = split(ring, count)?;
        PacketConsumer::attach(&header, &slots, count)
    }

    /// The next packet, which stays in the ring; `Ok(None)` when there is none. The same one until it is given back.
    /// After [`RingError::Corrupt`], [`PacketConsumer::skip_all`] is the way on.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record>, RingError> {
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
            Found::Pad => Err(RingError::Corrupt),
        }
    }

    #[inline]
    fn look_at(&mut self, pad_allowed: bool) -> Result<Found, RingError> {
        let filled = self.end.filled()?;
        if filled == 0 {
            return Ok(Found::Record(None));
        }
        let capacity = self.end.capacity();
        let position = self.end.head & (capacity - 1);
        let to_end = capacity - position;
        let word = self.slots.load_first(self.end.head);
        self.end.confirm()?;
        let header: PacketHeader = zerocopy::transmute!(word);
        let (len, slots) = (usize::from(header.len), u32::from(header.slots));
        let next = self.end.head.wrapping_add(slots);
        let fits = slots <= filled && slots <= to_end && header.reserved == 0;
        match header.kind {
            PACKET_FRAME if fits && packet_slots(len) == usize::from(header.slots) => {
                let record = Record { offset: position as usize * SLOT_BYTES + PACKET_HEADER_BYTES, len };
                self.peeked = Some((record, next));
                Ok(Found::Record(Some(record)))
            }
            PACKET_PAD if fits && pad_allowed && len == 0 && slots == to_end && position != 0 => {
                self.end.head = next;
                self.end.release();
                Ok(Found::Pad)
            }
            _ => Err(RingError::Corrupt),
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
        self.end.look()
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
        self.end.prepare_wait()
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
