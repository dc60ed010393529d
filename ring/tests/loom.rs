//! The same source under loom, which tries every interleaving and every value that the memory model lets a load see.
//!
//! `RUSTFLAGS='--cfg loom' cargo test -p ring --release loom`
#![cfg(loom)]

use abi::message::Message;
use abi::ring::{CONSUMER_WAITS, EPOCH, HEAD, IndexWord, PRODUCER_WAITS, TAIL, WRAP};
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Notify};
use loom::thread;
use ring::{
    ByteMemory, Consumer, HeaderWords, Memory, PacketConsumer, PacketProducer, PeekError, Producer, PushError,
    ReserveError, RingError, SlotArray, SlotWords,
};

/// The six words of a header, and slots of which the first two words are kept: enough to see a message that is torn.
struct Words {
    tail: AtomicU64,
    head: AtomicU64,
    wrap: AtomicU64,
    producer_waits: AtomicU32,
    consumer_waits: AtomicU32,
    epoch: AtomicU32,
    /// How many slots the ring has, and that many slots or fewer: of a large one, the last and the first ones, as far as a test
    /// uses them.
    count: u32,
    slots: Vec<[AtomicU64; 2]>,
}

#[derive(Clone)]
struct LoomMemory(Arc<Words>);

impl LoomMemory {
    fn new(slots: usize) -> LoomMemory {
        LoomMemory::large(u32::try_from(slots).unwrap(), slots, 0)
    }

    /// A ring of `count` slots, all taken up to `index`, of which those are kept whose number modulo `kept` differs.
    fn large(count: u32, kept: usize, index: u32) -> LoomMemory {
        let start = IndexWord { epoch: 0, index }.pack();
        LoomMemory(Arc::new(Words {
            tail: AtomicU64::new(start),
            head: AtomicU64::new(start),
            wrap: AtomicU64::new(0),
            count,
            producer_waits: AtomicU32::new(0),
            consumer_waits: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            slots: (0..kept).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect(),
        }))
    }

    fn producer(&self) -> Producer<LoomMemory> {
        Producer::attach(self, self, self.count()).unwrap()
    }

    fn consumer(&self) -> Consumer<LoomMemory> {
        Consumer::attach(self, self, self.count()).unwrap()
    }

    fn count(&self) -> u32 {
        self.0.count
    }

    /// What `ring::reset` stores. loom forgets a load by another thread when the storing thread loads the same word itself, and
    /// then misses interleavings, so the load that `ring::reset` makes is left out.
    fn reset(&self) {
        self.store32::<EPOCH>(1);
    }

    fn word32(&self, offset: usize) -> &AtomicU32 {
        match offset {
            PRODUCER_WAITS => &self.0.producer_waits,
            CONSUMER_WAITS => &self.0.consumer_waits,
            EPOCH => &self.0.epoch,
            _ => unreachable!("no 32-bit word at {offset}"),
        }
    }

    fn word64(&self, offset: usize) -> &AtomicU64 {
        match offset {
            TAIL => &self.0.tail,
            HEAD => &self.0.head,
            WRAP => &self.0.wrap,
            _ => unreachable!("no 64-bit word at {offset}"),
        }
    }

    fn slot(&self, index: u32) -> &[AtomicU64; 2] {
        &self.0.slots[(index & (self.count() - 1)) as usize % self.0.slots.len()]
    }
}

impl Memory for LoomMemory {
    type Header = LoomMemory;
    type Slots = LoomMemory;

    fn header(&self) -> Option<LoomMemory> {
        Some(self.clone())
    }

    fn slots(&self, count: u32) -> Option<LoomMemory> {
        (count == self.count()).then(|| self.clone())
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

impl HeaderWords for LoomMemory {
    fn load32<const OFFSET: usize>(&self) -> u32 {
        self.word32(OFFSET).load(Ordering::Acquire)
    }

    fn load64<const OFFSET: usize>(&self) -> u64 {
        self.word64(OFFSET).load(Ordering::Acquire)
    }

    fn store32<const OFFSET: usize>(&self, value: u32) {
        self.word32(OFFSET).store(value, Ordering::Release);
    }

    fn store64<const OFFSET: usize>(&self, value: u64) {
        self.word64(OFFSET).store(value, Ordering::Release);
    }
}

impl SlotArray for LoomMemory {
    fn store(&self, index: u32, words: &SlotWords) {
        let [a, b] = self.slot(index);
        a.store(words[0], Ordering::Relaxed);
        b.store(words[1], Ordering::Relaxed);
    }

    fn load_start<const N: usize>(&self, index: u32) -> [u64; N] {
        let slot = self.slot(index);
        std::array::from_fn(|word| slot.get(word).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    fn store_first(&self, index: u32, word: u64) {
        self.slot(index)[0].store(word, Ordering::Relaxed);
    }
}

/// Packets are told apart by their lengths, which stand in their headers: no other byte is kept.
impl ByteMemory for LoomMemory {
    fn len(&self) -> usize {
        self.count() as usize * 64
    }

    fn sub(&self, _: usize, _: usize) -> Option<LoomMemory> {
        Some(self.clone())
    }

    fn read(&self, _: usize, _: &mut [u8]) -> Option<()> {
        Some(())
    }

    fn write(&self, _: usize, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn copy_to(&self, _: usize, _: &LoomMemory, _: usize, _: usize) -> Option<()> {
        Some(())
    }
}

/// A message whose two kept words must fit each other.
fn message(n: u32) -> Message {
    Message { kind: n, id: 0, words: [!u64::from(n), 0, 0, 0, 0, 0, 0] }
}

/// The number of a message that is whole.
fn number(message: &Message) -> u32 {
    assert_eq!(message.words[0], !u64::from(message.kind), "torn");
    message.kind
}

#[test]
fn loom_messages_arrive_whole_and_in_order() {
    loom::model(|| {
        let ring = LoomMemory::new(2);
        let mut producer = ring.producer();
        let mut consumer = ring.consumer();
        let other = thread::spawn(move || {
            for n in 1..=3 {
                while let Err(error) = producer.push(&message(n)) {
                    assert_eq!(error, PushError::Full);
                    thread::yield_now();
                }
            }
        });
        for n in 1..=3 {
            let taken = loop {
                if let Some(taken) = consumer.pop().unwrap() {
                    break taken;
                }
                thread::yield_now();
            };
            assert_eq!(number(&taken), n);
        }
        assert_eq!(consumer.pop(), Ok(None));
        other.join().unwrap();
    });
}

#[test]
fn loom_a_batch_arrives_whole() {
    loom::model(|| {
        let ring = LoomMemory::new(2);
        let mut producer = ring.producer();
        let mut consumer = ring.consumer();
        let other = thread::spawn(move || {
            producer.stage(&message(1)).unwrap();
            producer.stage(&message(2)).unwrap();
            producer.publish();
        });
        let mut taken = Vec::new();
        for _ in 0..2 {
            while let Some(message) = consumer.take().unwrap() {
                taken.push(number(&message));
            }
            consumer.release();
            thread::yield_now();
        }
        assert!(taken.is_empty() || taken == [1, 2], "{taken:?}");
        other.join().unwrap();
    });
}

/// A lost doorbell would leave the consumer asleep for ever, which loom reports as a deadlock.
#[test]
fn loom_no_doorbell_of_the_consumer_is_lost() {
    loom::model(|| {
        let ring = LoomMemory::new(2);
        let doorbell = Arc::new(Notify::new());
        let mut producer = ring.producer();
        let mut consumer = ring.consumer();
        let ringer = doorbell.clone();
        let other = thread::spawn(move || {
            for n in 1..=2 {
                producer.push(&message(n)).unwrap();
                if producer.consumer_waits() {
                    ringer.notify();
                }
            }
        });
        let mut next = 1;
        while next <= 2 {
            if let Some(taken) = consumer.pop().unwrap() {
                assert_eq!(number(&taken), next);
                next += 1;
            } else if consumer.prepare_wait() {
                doorbell.wait();
                consumer.cancel_wait();
            }
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_no_doorbell_of_the_producer_is_lost() {
    loom::model(|| {
        let ring = LoomMemory::new(1);
        let doorbell = Arc::new(Notify::new());
        let mut producer = ring.producer();
        let mut consumer = ring.consumer();
        producer.push(&message(1)).unwrap();
        let ringer = doorbell.clone();
        let other = thread::spawn(move || {
            assert_eq!(number(&consumer.pop().unwrap().unwrap()), 1);
            if consumer.producer_waits() {
                ringer.notify();
            }
            consumer
        });
        while let Err(error) = producer.push(&message(2)) {
            assert_eq!(error, PushError::Full);
            if producer.prepare_wait() {
                doorbell.wait();
                producer.cancel_wait();
            }
        }
        let mut consumer = other.join().unwrap();
        assert_eq!(number(&consumer.pop().unwrap().unwrap()), 2);
    });
}

/// The owner resets the ring while both ends are in the middle of something: stores of the old epoch arrive late, and slots
/// are written again while they are read. What the consumer takes in an epoch was put in in that epoch, whole and in order.
#[test]
fn loom_a_reset_amid_push_and_pop_mixes_nothing() {
    // Without a bound on preemptions this takes hours; the bug that it is there to find needs two.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let ring = LoomMemory::new(1);
        let mut producer = ring.producer();
        let mut consumer = ring.consumer();
        let filling = thread::spawn(move || {
            let mut epoch = 0;
            let mut n = 0;
            for _ in 0..3 {
                match producer.push(&message(epoch * 100 + n)) {
                    Ok(()) => n += 1,
                    Err(PushError::Full) => {}
                    Err(PushError::EpochChanged) => (epoch, n) = (epoch + 1, 0),
                    Err(PushError::Corrupt) => panic!("nobody lied"),
                }
            }
        });
        let owner = ring.clone();
        let resetting = thread::spawn(move || {
            owner.reset();
        });
        let mut epoch = 0;
        let mut n = 0;
        for _ in 0..3 {
            match consumer.pop() {
                Ok(Some(message)) => {
                    assert_eq!(number(&message), epoch * 100 + n);
                    n += 1;
                }
                Ok(None) => {}
                Err(RingError::EpochChanged) => (epoch, n) = (epoch + 1, 0),
                Err(RingError::Corrupt) => panic!("nobody lied"),
            }
        }
        filling.join().unwrap();
        resetting.join().unwrap();
    });
}

/// One end dies, the ring is reset, its successor attaches, while the survivor works on.
#[test]
fn loom_a_successor_attaches_while_the_other_end_works() {
    loom::model(|| {
        let ring = LoomMemory::new(2);
        let mut consumer = ring.consumer();
        let other = ring.clone();
        let dying = thread::spawn(move || {
            let mut producer = other.producer();
            producer.push(&message(1)).unwrap();
            drop(producer);
            other.reset();
            let mut producer = other.producer();
            producer.push(&message(2)).unwrap();
        });
        let mut epoch = 0;
        for _ in 0..3 {
            match consumer.pop() {
                Ok(Some(message)) => assert_eq!(number(&message), 1 + epoch),
                Ok(None) => {}
                Err(RingError::EpochChanged) => epoch += 1,
                Err(RingError::Corrupt) => panic!("nobody lied"),
            }
        }
        dying.join().unwrap();
        let seen = loop {
            match consumer.pop() {
                Ok(message) => break message.map(|message| number(&message)),
                Err(error) => {
                    assert_eq!(error, RingError::EpochChanged);
                    epoch += 1;
                }
            }
        };
        assert_eq!(epoch, 1, "reported once");
        assert!(seen.is_none_or(|n| n == 2));
    });
}

/// Slots of a ring of two pages, and where it stands at the start: one slot before the end of the first page.
const LARGE: u32 = 128;
const NEAR: u32 = 63;

/// A ring of packets one slot before the end of its first page, of which four slots are kept: 63 and 0 to 2 (or 64 to 66).
fn large() -> (LoomMemory, PacketProducer<LoomMemory>, PacketConsumer<LoomMemory>) {
    let ring = LoomMemory::large(LARGE, 4, NEAR);
    let producer = PacketProducer::attach(&ring, &ring, LARGE).unwrap();
    let consumer = PacketConsumer::attach(&ring, &ring, LARGE).unwrap();
    (ring, producer, consumer)
}

/// The first packet wraps, the second does if the first was taken by then. The consumer sees both, in order, and sleeps between
/// them without missing one.
#[test]
fn loom_a_wrap_loses_no_packet_and_no_doorbell() {
    loom::model(|| {
        let (_, mut producer, mut consumer) = large();
        let doorbell = Arc::new(Notify::new());
        let ringer = doorbell.clone();
        let other = thread::spawn(move || {
            for len in [100, 101] {
                producer.push(&[0; 101][..len]).unwrap();
                if producer.consumer_waits() {
                    ringer.notify();
                }
            }
            producer
        });
        let mut next = 100;
        while next <= 101 {
            match consumer.peek().unwrap() {
                Some(record) => {
                    assert_eq!(record.len, next);
                    assert!(record.offset < 4096, "{record:?}");
                    consumer.advance().unwrap();
                    next += 1;
                }
                None if consumer.prepare_wait() => {
                    doorbell.wait();
                    consumer.cancel_wait();
                }
                None => {}
            }
        }
        let mut producer = other.join().unwrap();
        assert_eq!(producer.in_flight(), Ok(0));
    });
}

/// While the consumer takes what was wrapped to, the producer looks for space: it counts no slot before the wrap as used, and
/// clears the word only when the consumer has gone along.
#[test]
fn loom_a_wrap_takes_no_space() {
    loom::model(|| {
        let (ring, mut producer, mut consumer) = large();
        producer.push(&[0; 100]).unwrap();
        let other = thread::spawn(move || {
            assert_eq!(consumer.peek().unwrap().map(|record| record.len), Some(100));
            consumer.advance().unwrap();
            consumer
        });
        let used = producer.in_flight().unwrap();
        assert!(matches!(used, 0 | 2), "{used}");
        assert_eq!(ring.0.wrap.load(Ordering::Relaxed) != 0, used == 2);
        let mut consumer = other.join().unwrap();
        assert_eq!(producer.in_flight(), Ok(0));
        producer.push(&[0; 102]).unwrap();
        assert_eq!(consumer.peek().unwrap().map(|record| record.len), Some(102));
    });
}

/// The owner resets the ring amid a wrap: what the consumer takes in an epoch was put in in that epoch.
#[test]
fn loom_a_reset_amid_a_wrap_mixes_nothing() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (ring, mut producer, mut consumer) = large();
        let filling = thread::spawn(move || {
            let mut epoch = 0;
            for _ in 0..2 {
                match producer.push(&[0; 101][..100 + epoch]) {
                    Ok(()) => {}
                    Err(ReserveError::EpochChanged) => epoch += 1,
                    Err(error) => panic!("nobody lied: {error}"),
                }
            }
        });
        let owner = ring.clone();
        let resetting = thread::spawn(move || owner.reset());
        let mut epoch = 0;
        for _ in 0..2 {
            match consumer.peek() {
                Ok(Some(record)) => {
                    if consumer.advance().is_ok() {
                        assert_eq!(record.len, 100 + epoch);
                    } else {
                        epoch += 1;
                    }
                }
                Ok(None) => {}
                Err(PeekError::EpochChanged) => epoch += 1,
                Err(error) => panic!("nobody lied: {error}"),
            }
        }
        filling.join().unwrap();
        resetting.join().unwrap();
    });
}
