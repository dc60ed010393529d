//! A peer that writes anything at any time, even between two accesses of one operation: no operation panics, leaves its
//! memory or the pages that it was given, or does more than a fixed amount of work, and afterwards the ring can be used again.
//!
//! Under Miri this test needs `-Zmiri-disable-weak-memory-emulation`, whose buffers cannot hold the peer's stores of other widths;
//! all need `-Zmiri-ignore-leaks`, since test memory is leaked.

mod common;

use abi::message::Message;
use abi::ring::{
    CONSUMER_WAITS, EPOCH, HEAD, HEADER_BYTES, IndexWord, PACKET_FRAME, PACKET_PAD, PAGE_SLOTS, PRODUCER_WAITS,
    SLOT_BYTES, TAIL, WRAP, WRAP_VALID,
};
use common::{Random, memory};
use ring::{
    ByteMemory, Consumer, HeaderWords, Memory, PacketConsumer, PacketProducer, PeekError, Producer, PushError,
    ReserveError, RingError, SharedHeader, SharedMemory, SharedSlots, SlotArray, SlotWords, reset,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;

const SLOTS: u32 = 8;
/// Slots of a ring of four pages.
const MANY: u32 = 4 * PAGE_SLOTS;
const CANARY: u64 = 0xdead_beef_cafe_f00d;
const ROUNDS: u64 = if cfg!(miri) { 200 } else { 300_000 };
/// Loads and stores of words that one call may make at most.
const MAX_ACCESSES: u32 = 16;

/// Who plays the peer.
struct Peer {
    ring: SharedMemory,
    slots: u32,
    random: RefCell<Random>,
    /// Writes between two accesses happen once in so many times; 0 for never.
    every: Cell<u64>,
    accesses: Cell<u32>,
}

impl Peer {
    /// Called before every access of the end under test.
    fn access(&self) {
        self.accesses.set(self.accesses.get() + 1);
        if self.every.get() != 0 && self.random.borrow_mut().below(self.every.get()) == 0 {
            self.scribble();
        }
    }

    /// Writes something, mostly something that is nearly right.
    fn scribble(&self) {
        let random = &mut *self.random.borrow_mut();
        let ring = &self.ring;
        let epoch = ring.read32(EPOCH).unwrap();
        let word = |random: &mut Random, own: u64| match random.below(5) {
            0 => random.next(),
            1 => own.wrapping_add(random.below(20)).wrapping_sub(5),
            2 => IndexWord { epoch, index: random.next().to_le_bytes()[0].into() }.pack(),
            3 => IndexWord { epoch: epoch.wrapping_add(1), index: 3 }.pack(),
            _ => IndexWord { epoch, index: IndexWord::unpack(own).index.wrapping_add(9) }.pack(),
        };
        match random.below(9) {
            8 => {
                // A wrap, mostly to slot 0 of the next round.
                let from = IndexWord::unpack(ring.read64(if random.below(2) == 0 { HEAD } else { TAIL }).unwrap());
                let round = (from.index | (self.slots - 1)).wrapping_add(1);
                let index = round.wrapping_add(u32::from(random.byte() % 3) * 4) | WRAP_VALID;
                let word = match random.below(8) {
                    0 => word(random, ring.read64(WRAP).unwrap()),
                    1 => IndexWord { epoch: epoch.wrapping_sub(1), index }.pack(),
                    2 => 0,
                    _ => IndexWord { epoch, index }.pack(),
                };
                ring.write64(WRAP, word).unwrap();
                if random.below(2) == 0 {
                    ring.write64(TAIL, IndexWord { epoch, index: round.wrapping_add(5) }.pack()).unwrap();
                }
            }
            0 => {
                let head = ring.read64(HEAD).unwrap();
                ring.write64(TAIL, word(random, head)).unwrap();
            }
            1 => {
                let tail = ring.read64(TAIL).unwrap();
                ring.write64(HEAD, word(random, tail)).unwrap();
            }
            2 if random.below(20) == 0 => {
                ring.write32(EPOCH, epoch.wrapping_add(1)).unwrap();
            }
            3 => {
                ring.write8(PRODUCER_WAITS + random.index(4), random.byte()).unwrap();
                ring.write8(CONSUMER_WAITS + random.index(4), random.byte()).unwrap();
            }
            4..6 => {
                // A record header, plausible or not.
                let len = random.below(600);
                let slots = if random.below(2) == 0 { (8 + len).div_ceil(64) } else { random.below(10) };
                let kind = if random.below(2) == 0 { PACKET_FRAME } else { PACKET_PAD };
                let len = if random.below(4) == 0 { 0 } else { len };
                let slot = random.index(self.slots as usize);
                ring.write64(HEADER_BYTES + slot * SLOT_BYTES, len | u64::from(kind) << 16 | slots << 32).unwrap();
            }
            _ => {
                ring.write64(random.index(ring.len() / 8) * 8, random.next()).unwrap();
            }
        }
    }
}

/// Memory in which the peer writes whenever it is touched.
#[derive(Clone)]
struct Hostile {
    memory: SharedMemory,
    peer: Rc<Peer>,
    /// Bit `i` for each page that may be touched, where not all may.
    given: Option<Rc<Cell<u32>>>,
}

impl Hostile {
    fn check(&self, offset: usize, len: usize) {
        self.peer.access();
        let Some(given) = &self.given else { return };
        for page in offset / 4096..(offset + len).div_ceil(4096) {
            assert!(given.get() >> page & 1 != 0, "{len} bytes at {offset} touch page {page}");
        }
    }
}

struct HostileHeader(SharedHeader, Rc<Peer>);
struct HostileSlots(SharedSlots, Hostile, u32);

impl HostileSlots {
    fn check(&self, index: u32) {
        self.1.check((index & (self.2 - 1)) as usize * SLOT_BYTES, SLOT_BYTES);
    }
}

impl Memory for Hostile {
    type Header = HostileHeader;
    type Slots = HostileSlots;

    fn header(&self) -> Option<HostileHeader> {
        Some(HostileHeader(self.memory.header()?, self.peer.clone()))
    }

    fn slots(&self, count: u32) -> Option<HostileSlots> {
        Some(HostileSlots(self.memory.slots(count)?, self.clone(), count))
    }

    fn fence(order: Ordering) {
        SharedMemory::fence(order);
    }
}

impl HeaderWords for HostileHeader {
    fn load32<const OFFSET: usize>(&self) -> u32 {
        self.1.access();
        self.0.load32::<OFFSET>()
    }

    fn load64<const OFFSET: usize>(&self) -> u64 {
        self.1.access();
        self.0.load64::<OFFSET>()
    }

    fn store32<const OFFSET: usize>(&self, value: u32) {
        self.1.access();
        self.0.store32::<OFFSET>(value);
    }

    fn store64<const OFFSET: usize>(&self, value: u64) {
        self.1.access();
        self.0.store64::<OFFSET>(value);
    }
}

impl SlotArray for HostileSlots {
    fn store(&self, index: u32, words: &SlotWords) {
        self.check(index);
        self.0.store(index, words);
    }

    fn load_start<const N: usize>(&self, index: u32) -> [u64; N] {
        self.check(index);
        self.0.load_start(index)
    }

    fn store_first(&self, index: u32, word: u64) {
        self.check(index);
        self.0.store_first(index, word);
    }
}

impl ByteMemory for Hostile {
    fn len(&self) -> usize {
        self.memory.len()
    }

    fn sub(&self, offset: usize, len: usize) -> Option<Self> {
        Some(Hostile { memory: self.memory.sub(offset, len)?, peer: self.peer.clone(), given: None })
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Option<()> {
        self.check(offset, to.len());
        self.memory.read(offset, to)
    }

    fn write(&self, offset: usize, from: &[u8]) -> Option<()> {
        self.check(offset, from.len());
        self.memory.write(offset, from)
    }

    fn copy_to(&self, offset: usize, to: &Self, to_offset: usize, len: usize) -> Option<()> {
        self.check(offset, len);
        to.check(to_offset, len);
        self.memory.copy_to(offset, &to.memory, to_offset, len)
    }
}

/// A ring between two canaries, and its peer.
struct Table {
    whole: SharedMemory,
    ring: Hostile,
    peer: Rc<Peer>,
}

impl Table {
    fn new(seed: u64, slots: u32) -> Table {
        let ring_bytes = HEADER_BYTES + slots as usize * SLOT_BYTES;
        let whole = memory(ring_bytes + 2 * 4096);
        for offset in (0..whole.len()).step_by(8) {
            whole.write64(offset, CANARY).unwrap();
        }
        let memory = whole.sub(4096, ring_bytes).unwrap();
        memory.clear(0, ring_bytes).unwrap();
        let peer = Rc::new(Peer {
            ring: memory,
            slots,
            random: RefCell::new(Random::new(seed)),
            every: Cell::new(3),
            accesses: Cell::new(0),
        });
        Table { whole, ring: Hostile { memory, peer: peer.clone(), given: None }, peer }
    }

    /// The slots of the ring, for an end that is given their pages by and by.
    fn sparse(&self) -> (Hostile, Rc<Cell<u32>>) {
        let given = Rc::new(Cell::new(0));
        let slots = self.ring.sub(HEADER_BYTES, self.ring.len() - HEADER_BYTES).unwrap();
        (Hostile { given: Some(given.clone()), ..slots }, given)
    }

    fn below(&self, bound: u64) -> u64 {
        self.peer.random.borrow_mut().below(bound)
    }

    fn index(&self, len: usize) -> usize {
        self.peer.random.borrow_mut().index(len)
    }

    /// Checks what one call has cost, and lets the peer write.
    fn between(&self) {
        let accesses = self.peer.accesses.replace(0);
        assert!(accesses <= MAX_ACCESSES, "{accesses} accesses in one call");
        for _ in 0..self.below(4) {
            self.peer.scribble();
        }
    }

    fn check_canaries(&self) {
        for offset in (0..4096).chain(4096 + self.ring.len()..self.whole.len()).step_by(8) {
            assert_eq!(self.whole.read64(offset), Some(CANARY), "at {offset}");
        }
    }

    /// The peer falls silent, the owner resets the ring, and the true peer comes back.
    fn make_peace(&self) {
        self.peer.every.set(0);
        reset(&self.ring.memory).unwrap();
    }
}

#[test]
fn message_ends_survive_a_hostile_peer() {
    for seed in 1..4 {
        let table = Table::new(seed, SLOTS);
        let mut producer = Producer::attach_contiguous(&table.ring, SLOTS).unwrap();
        let mut consumer = Consumer::attach_contiguous(&table.ring, SLOTS).unwrap();
        // Not every peer lies all the time, or the deeper paths would never be reached.
        let mut outcomes = [0_u64; 8];
        for round in 0..ROUNDS {
            table.peer.every.set([3, 10, 50][(round / 1000 % 3) as usize]);
            match table.below(12) {
                0..3 => {
                    let outcome = match producer.push(&Message::new(1, [round])) {
                        Ok(()) => 0,
                        Err(PushError::Full) => 1,
                        Err(PushError::EpochChanged) => 2,
                        Err(PushError::Corrupt) => 3,
                    };
                    outcomes[outcome] += 1;
                }
                3..7 => {
                    let outcome = match consumer.pop() {
                        Ok(Some(_)) => 4,
                        Ok(None) => 5,
                        Err(RingError::EpochChanged) => 6,
                        Err(RingError::Corrupt) => 7,
                    };
                    outcomes[outcome] += 1;
                }
                7 => {
                    let _ = consumer.skip_all();
                }
                8 => {
                    if producer.prepare_wait() {
                        producer.cancel_wait();
                    }
                }
                9 => {
                    if consumer.prepare_wait() {
                        consumer.cancel_wait();
                    }
                }
                10 => assert!(producer.in_flight().unwrap_or(0) <= SLOTS),
                _ => assert!(consumer.available().unwrap_or(0) <= SLOTS),
            }
            table.between();
        }
        table.check_canaries();
        assert!(outcomes.iter().all(|&count| count >= ROUNDS / 1000), "a path was not taken: {outcomes:?}");

        table.make_peace();
        assert_eq!(producer.push(&Message::default()), Err(PushError::EpochChanged));
        assert_eq!(consumer.pop(), Err(RingError::EpochChanged));
        for n in 0..100 {
            producer.push(&Message::new(1, [n])).unwrap();
            assert_eq!(consumer.pop(), Ok(Some(Message::new(1, [n]))));
        }
    }
}

#[test]
fn packet_ends_survive_a_hostile_peer() {
    for seed in 1..4 {
        let slots = if seed % 2 == 0 { SLOTS } else { MANY };
        let table = Table::new(seed, slots);
        let ((to_fill, filled), (to_take, taken)) = (table.sparse(), table.sparse());
        let mut producer = PacketProducer::attach_sparse(&table.ring, &to_fill, slots).unwrap();
        let mut consumer = PacketConsumer::attach_sparse(&table.ring, &to_take, slots).unwrap();
        let elsewhere = Hostile { memory: memory(1 << 16), peer: table.peer.clone(), given: None };
        let slot_bytes = slots as usize * SLOT_BYTES;
        let mut outcomes = [0_u64; 11];
        for round in 0..ROUNDS {
            table.peer.every.set([3, 10, 50][(round / 1000 % 3) as usize]);
            match table.below(13) {
                0..3 => {
                    let len = table.index(if table.below(9) == 0 { slots as usize * 40 } else { 300 });
                    let outcome = match producer.reserve(len) {
                        Ok(mut reservation) => {
                            reservation.copy_from(0, &elsewhere, 7, len).unwrap();
                            reservation.commit();
                            0
                        }
                        Err(ReserveError::Full) => 1,
                        Err(ReserveError::TooLong) => 2,
                        Err(ReserveError::EpochChanged) => 3,
                        Err(ReserveError::Corrupt) => 4,
                        Err(ReserveError::NoPage(page)) => {
                            producer.give_page(page);
                            filled.set(filled.get() | 1 << page);
                            10
                        }
                    };
                    outcomes[outcome] += 1;
                }
                3..7 => {
                    let outcome = match consumer.peek() {
                        Ok(Some(record)) => {
                            assert!(record.offset + record.len <= slot_bytes, "{record:?}");
                            consumer.copy_to(&record, &elsewhere, 0).unwrap();
                            let _ = consumer.advance();
                            5
                        }
                        Ok(None) => 6,
                        Err(PeekError::EpochChanged) => 7,
                        Err(PeekError::Corrupt) => 8,
                        Err(PeekError::NoPage(page)) => {
                            consumer.give_page(page);
                            taken.set(taken.get() | 1 << page);
                            9
                        }
                    };
                    outcomes[outcome] += 1;
                }
                7..9 => {
                    let _ = consumer.skip_all();
                }
                9 => {
                    let len = table.index(600);
                    if producer.prepare_wait(len) {
                        producer.cancel_wait();
                    }
                }
                10 if consumer.prepare_wait() => consumer.cancel_wait(),
                10 => {}
                11 => {
                    assert!(producer.in_flight().unwrap_or(0) <= slots);
                    table.between();
                    assert!(consumer.available().unwrap_or(0) <= slots);
                    table.between();
                    let _ = producer.has_room(100);
                }
                _ if table.below(4) == 0 => {
                    let pages = u32::from(table.peer.random.borrow_mut().byte());
                    producer.take_pages(pages);
                    filled.set(filled.get() & !pages);
                    consumer.take_pages(!pages);
                    taken.set(taken.get() & pages);
                }
                _ => {}
            }
            table.between();
        }
        table.check_canaries();
        assert!(outcomes.iter().all(|&count| count >= ROUNDS / 2000), "a path was not taken: {outcomes:?}");

        table.make_peace();
        for page in 0..4 {
            producer.give_page(page);
            consumer.give_page(page);
        }
        filled.set(!0);
        taken.set(!0);
        assert_eq!(producer.push(&[]), Err(ReserveError::EpochChanged));
        assert_eq!(consumer.peek(), Err(PeekError::EpochChanged));
        for n in 0..100 {
            producer.push(&[n; 150]).unwrap();
            let record = consumer.peek().unwrap().unwrap();
            let mut bytes = [0; 150];
            consumer.read(&record, 0, &mut bytes).unwrap();
            assert_eq!(bytes, [n; 150]);
            consumer.advance().unwrap();
        }
    }
}

/// Without a reset, too, a consumer goes on after its peer has come to its senses.
#[test]
fn skip_all_is_the_way_on_without_a_reset() {
    let table = Table::new(9, SLOTS);
    table.peer.every.set(0);
    let mut consumer = PacketConsumer::attach_contiguous(&table.ring, SLOTS).unwrap();
    for _ in 0..if cfg!(miri) { 20 } else { 10_000 } {
        for _ in 0..10 {
            table.peer.scribble();
        }
        // Report the reset that the peer may have faked, then drop everything.
        let _ = consumer.check_epoch();
        consumer.skip_all().unwrap();
        assert_eq!(consumer.peek(), Ok(None));
        let mut producer = PacketProducer::attach_contiguous(&table.ring, SLOTS).unwrap();
        producer.push(b"good").unwrap();
        assert_eq!(consumer.peek().unwrap().unwrap().len, 4);
        consumer.advance().unwrap();
    }
    table.check_canaries();
}
