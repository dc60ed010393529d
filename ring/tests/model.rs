//! Any interleaving of operations behaves as a queue does.

mod common;

use abi::message::Message;
use abi::ring::{HEADER_BYTES, PAGE_SLOTS, SLOT_BYTES, packet_slots};
use common::{ring_memory, start_at};
use proptest::prelude::*;
use ring::{
    Consumer, PacketConsumer, PacketProducer, PeekError, Producer, PushError, ReserveError, RingError, SharedMemory,
    reset,
};
use std::collections::VecDeque;

/// Steps of one history at most.
const STEPS: usize = if cfg!(miri) { 50 } else { 150 };

/// Indices near their end are as likely as others.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 0..100_u32, any::<u32>(), (u32::MAX - 50)..=u32::MAX]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    Stage,
    Publish,
    Pop,
    Take,
    Release,
    SkipAll,
    Reset,
    AttachProducer,
    AttachConsumer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Push),
        6 => Just(Step::Stage),
        3 => Just(Step::Publish),
        6 => Just(Step::Pop),
        6 => Just(Step::Take),
        3 => Just(Step::Release),
        1 => Just(Step::SkipAll),
        1 => Just(Step::Reset),
        1 => Just(Step::AttachProducer),
        1 => Just(Step::AttachConsumer),
    ]
}

/// What a ring of messages ought to be.
struct Model {
    capacity: usize,
    /// Pushed, not yet visible.
    staged: VecDeque<u64>,
    /// Visible, not yet taken.
    visible: VecDeque<u64>,
    /// Taken, not yet released: still in the way of the producer.
    taken: VecDeque<u64>,
    producer_to_report: bool,
    consumer_to_report: bool,
}

impl Model {
    fn reset(&mut self) {
        self.staged.clear();
        self.visible.clear();
        self.taken.clear();
        self.producer_to_report = true;
        self.consumer_to_report = true;
    }

    fn stage(&mut self, n: u64) -> Result<(), PushError> {
        if std::mem::take(&mut self.producer_to_report) {
            return Err(PushError::EpochChanged);
        }
        if self.staged.len() + self.visible.len() + self.taken.len() == self.capacity {
            return Err(PushError::Full);
        }
        self.staged.push_back(n);
        Ok(())
    }

    fn publish(&mut self) {
        // In an old epoch the store counts for nothing.
        if !self.producer_to_report {
            self.visible.append(&mut self.staged);
        }
    }

    fn take(&mut self) -> Result<Option<u64>, RingError> {
        if std::mem::take(&mut self.consumer_to_report) {
            return Err(RingError::EpochChanged);
        }
        let front = self.visible.pop_front();
        self.taken.extend(front);
        Ok(front)
    }

    fn release(&mut self) {
        if !self.consumer_to_report {
            self.taken.clear();
        }
    }
}

fn message(n: u64) -> Message {
    Message { kind: 1, id: 2, words: [n, !n, n << 7, 3, 4, 5, n.rotate_left(9)] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 500 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages(log_slots in 0_u32..5, start in start(), steps in prop::collection::vec(step(), 1..STEPS + 50)) {
        let slots = 1 << log_slots;
        let ring = ring_memory(slots);
        start_at(&ring, 0, start);
        let mut producer = Producer::attach_contiguous(&ring, slots).unwrap();
        let mut consumer = Consumer::attach_contiguous(&ring, slots).unwrap();
        let mut model = Model {
            capacity: slots as usize,
            staged: VecDeque::new(),
            visible: VecDeque::new(),
            taken: VecDeque::new(),
            producer_to_report: false,
            consumer_to_report: false,
        };
        for (n, step) in (0..).zip(steps) {
            match step {
                Step::Push => {
                    let expected = model.stage(n);
                    if expected.is_ok() {
                        model.publish();
                    }
                    prop_assert_eq!(producer.push(&message(n)), expected);
                }
                Step::Stage => prop_assert_eq!(producer.stage(&message(n)), model.stage(n)),
                Step::Publish => {
                    producer.publish();
                    model.publish();
                }
                Step::Pop => {
                    let expected = model.take();
                    if let Ok(Some(_)) = expected {
                        model.release();
                    }
                    prop_assert_eq!(consumer.pop(), expected.map(|n| n.map(message)));
                }
                Step::Take => prop_assert_eq!(consumer.take(), model.take().map(|n| n.map(message))),
                Step::Release => {
                    consumer.release();
                    model.release();
                }
                Step::SkipAll => {
                    let expected = if std::mem::take(&mut model.consumer_to_report) {
                        Err(RingError::EpochChanged)
                    } else {
                        model.visible.clear();
                        model.taken.clear();
                        Ok(())
                    };
                    prop_assert_eq!(consumer.skip_all(), expected);
                }
                Step::Reset => {
                    reset(&ring).unwrap();
                    model.reset();
                }
                Step::AttachProducer => {
                    // What was staged is lost with the end that had staged it.
                    producer = Producer::attach_contiguous(&ring, slots).unwrap();
                    model.staged.clear();
                    model.producer_to_report = false;
                }
                Step::AttachConsumer => {
                    // What was taken and not released comes again.
                    consumer = Consumer::attach_contiguous(&ring, slots).unwrap();
                    model.taken.append(&mut model.visible);
                    model.visible = std::mem::take(&mut model.taken);
                    model.consumer_to_report = false;
                }
            }
        }
    }

    #[test]
    fn packets(
        log_slots in 1_u32..8,
        start in start(),
        // Length, and whether to push or to pop.
        steps in prop::collection::vec((prop_oneof![0_usize..130, 0_usize..=1514], any::<bool>()), 1..STEPS),
    ) {
        let slots = 1 << log_slots;
        let ring = ring_memory(slots);
        start_at(&ring, 0, start);
        let mut producer = PacketProducer::attach_contiguous(&ring, slots).unwrap();
        let mut consumer = PacketConsumer::attach_contiguous(&ring, slots).unwrap();
        let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
        for (n, (len, push)) in (0..).zip(steps) {
            if push {
                let packet = packet(n, len);
                match producer.push(&packet) {
                    Ok(()) => queue.push_back(packet),
                    Err(ReserveError::TooLong) => {
                        prop_assert!(packet_slots(len) > slots as usize / 2);
                        prop_assert!(len > producer.max_len());
                    }
                    Err(ReserveError::Full) => {
                        prop_assert!(!queue.is_empty(), "refused though empty");
                        prop_assert!(producer.prepare_wait(len));
                        producer.cancel_wait();
                    }
                    Err(error) => prop_assert!(false, "{error:?}"),
                }
            } else {
                prop_assert_eq!(pop(&ring, &mut consumer, slots), queue.pop_front());
            }
        }
        while let Some(packet) = queue.pop_front() {
            prop_assert_eq!(pop(&ring, &mut consumer, slots), Some(packet));
        }
        prop_assert_eq!(pop(&ring, &mut consumer, slots), None);
        prop_assert_eq!(producer.in_flight(), Ok(0));
    }
}

#[derive(Clone, Copy, Debug)]
enum PacketStep {
    Push(usize),
    Stage(usize),
    Publish,
    Pop,
    /// Both ends lose these pages, if the ring is empty.
    TakePages(u32),
    Reset,
    AttachProducer,
    AttachConsumer,
}

fn packet_step() -> impl Strategy<Value = PacketStep> {
    let len = || prop_oneof![4 => 0_usize..200, 1 => 0_usize..=1514];
    prop_oneof![
        10 => len().prop_map(PacketStep::Push),
        5 => len().prop_map(PacketStep::Stage),
        3 => Just(PacketStep::Publish),
        18 => Just(PacketStep::Pop),
        3 => any::<u32>().prop_map(PacketStep::TakePages),
        1 => Just(PacketStep::Reset),
        1 => Just(PacketStep::AttachProducer),
        1 => Just(PacketStep::AttachConsumer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 500 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the ring wraps, and whenever its pages come and go, it is a queue. What an end has not been given is poisoned: a
    /// packet that was written or read there would be another one.
    #[test]
    fn packets_whose_pages_come_and_go(
        log_slots in 1_u32..10,
        start in start(),
        steps in prop::collection::vec(packet_step(), 1..2 * STEPS),
    ) {
        let slots = 1 << log_slots;
        let ring = ring_memory(slots);
        start_at(&ring, 0, start);
        let memory = ring.sub(HEADER_BYTES, slots as usize * SLOT_BYTES).unwrap();
        let mut producer = PacketProducer::attach_sparse(&ring, &memory, slots).unwrap();
        let mut consumer = PacketConsumer::attach_sparse(&ring, &memory, slots).unwrap();
        let (mut staged, mut visible) = (VecDeque::new(), VecDeque::new());
        let page_bytes = (slots.min(PAGE_SLOTS) as usize) * SLOT_BYTES;
        let poison = |pages: u32| {
            for page in (0..slots.div_ceil(PAGE_SLOTS) as usize).filter(|page| pages >> page & 1 != 0) {
                memory.write(page * page_bytes, &vec![0x5a; page_bytes]).unwrap();
            }
        };
        poison(!0);
        for (n, step) in (0..).zip(steps) {
            match step {
                PacketStep::Push(len) | PacketStep::Stage(len) => {
                    let packet = packet(n, len);
                    let pushed = loop {
                        let Err(error) = producer.reserve(len).map(|mut reservation| {
                            reservation.write(0, &packet).unwrap();
                            reservation.stage();
                        }) else {
                            break true;
                        };
                        match error {
                            ReserveError::NoPage(page) => {
                                prop_assert!(producer.pages() >> page & 1 == 0);
                                producer.give_page(page);
                            }
                            ReserveError::TooLong => {
                                prop_assert!(len > producer.max_len());
                                break false;
                            }
                            ReserveError::Full => {
                                prop_assert!(!(staged.is_empty() && visible.is_empty()), "refused though empty");
                                prop_assert_eq!(producer.has_room(len), Ok(false));
                                break false;
                            }
                            error => prop_assert!(false, "{error:?}"),
                        }
                    };
                    if pushed {
                        staged.push_back(packet);
                    }
                    if matches!(step, PacketStep::Push(_)) {
                        producer.publish();
                        visible.append(&mut staged);
                    }
                }
                PacketStep::Publish => {
                    producer.publish();
                    visible.append(&mut staged);
                }
                PacketStep::Pop => {
                    prop_assert_eq!(consumer.prepare_wait(), visible.is_empty());
                    consumer.cancel_wait();
                    let record = loop {
                        match consumer.peek() {
                            Err(PeekError::NoPage(page)) => {
                                prop_assert!(consumer.pages() >> page & 1 == 0);
                                consumer.give_page(page);
                            }
                            record => break record.unwrap(),
                        }
                    };
                    let taken = record.map(|record| {
                        let mut packet = vec![0; record.len];
                        consumer.read(&record, 0, &mut packet).unwrap();
                        consumer.advance().unwrap();
                        packet
                    });
                    prop_assert_eq!(taken, visible.pop_front());
                }
                PacketStep::TakePages(pages) => {
                    if staged.is_empty() && visible.is_empty() {
                        producer.take_pages(pages);
                        consumer.take_pages(pages);
                        poison(pages);
                    }
                }
                PacketStep::Reset => {
                    reset(&ring).unwrap();
                    prop_assert_eq!(producer.check_epoch(), Err(RingError::EpochChanged));
                    prop_assert_eq!(consumer.peek(), Err(PeekError::EpochChanged));
                    (staged.clear(), visible.clear());
                }
                PacketStep::AttachProducer => {
                    producer = PacketProducer::attach_sparse(&ring, &memory, slots).unwrap();
                    staged.clear();
                }
                PacketStep::AttachConsumer => {
                    consumer = PacketConsumer::attach_sparse(&ring, &memory, slots).unwrap();
                }
            }
        }
    }
}

fn packet(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + n).to_le_bytes()[0]).collect()
}

fn pop(ring: &SharedMemory, consumer: &mut PacketConsumer<SharedMemory>, slots: u32) -> Option<Vec<u8>> {
    let record = consumer.peek().unwrap()?;
    assert!(record.offset + record.len <= slots as usize * 64);
    let mut packet = vec![0; record.len];
    // Half of the time in place.
    if record.len % 2 == 0 {
        ring.read(HEADER_BYTES + record.offset, &mut packet).unwrap();
    } else {
        consumer.read(&record, 0, &mut packet).unwrap();
    }
    consumer.advance().unwrap();
    Some(packet)
}
