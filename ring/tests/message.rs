//! Message rings: what each operation does.

mod common;

use abi::message::Message;
use abi::ring::{CONSUMER_WAITS, HEAD, HEADER_BYTES, IndexWord, MAX_SLOTS, PRODUCER_WAITS, TAIL};
use common::{memory, ring_memory, start_at};
use ring::{AttachError, Consumer, Producer, PushError, RingError, SharedMemory, reset};

fn ends(ring: &SharedMemory, slots: u32) -> (Producer<SharedMemory>, Consumer<SharedMemory>) {
    (Producer::attach_contiguous(ring, slots).unwrap(), Consumer::attach_contiguous(ring, slots).unwrap())
}

fn message(n: u64) -> Message {
    Message { kind: 7, id: 9, words: [n, !n, 2, 3, 4, 5, n << 32] }
}

#[test]
fn messages_come_out_as_they_went_in_until_the_ring_is_full() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    assert_eq!((producer.capacity(), consumer.capacity()), (4, 4));
    assert_eq!(consumer.pop(), Ok(None));
    for round in 0..5 {
        for n in 0..4 {
            producer.push(&message(round * 10 + n)).unwrap();
        }
        assert_eq!(producer.push(&message(99)), Err(PushError::Full));
        assert_eq!(producer.in_flight(), Ok(4));
        assert_eq!(consumer.available(), Ok(4));
        for n in 0..4 {
            assert_eq!(consumer.pop(), Ok(Some(message(round * 10 + n))));
        }
        assert_eq!(consumer.pop(), Ok(None));
        assert_eq!(producer.in_flight(), Ok(0));
    }
}

/// What is not wanted stays for a take like any other, and what was not there at the last look is not looked for.
#[test]
fn one_message_is_taken_where_it_stands_if_it_is_wanted() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    let shown = |consumer: &mut Consumer<SharedMemory>, first: u64| {
        consumer.take_if::<3, _>(|message| (message.words[0] == first).then_some(*message))
    };
    producer.push(&message(1)).unwrap();
    producer.push(&message(2)).unwrap();
    assert_eq!(shown(&mut consumer, 1), None);
    assert_eq!(consumer.available(), Ok(2));
    assert_eq!(shown(&mut consumer, 2), None);
    // Three words are the head and two of the message's own.
    assert_eq!(shown(&mut consumer, 1), Some(Message { words: [1, !1, 0, 0, 0, 0, 0], ..message(1) }));
    assert_eq!((consumer.index(), producer.in_flight()), (1, Ok(1)));
    assert_eq!(consumer.pop(), Ok(Some(message(2))));
    assert_eq!(shown(&mut consumer, 2), None);
    producer.push(&message(3)).unwrap();
    assert_eq!(consumer.available(), Ok(1));
    reset(&ring).unwrap();
    assert_eq!(shown(&mut consumer, 3), None);
    assert_eq!(consumer.pop(), Ok(None));
}

/// Both ends count messages from the beginning of the epoch, by what they did themselves.
#[test]
fn each_end_says_how_many_messages_went_through_it() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    assert_eq!((producer.index(), consumer.index()), (0, 0));
    for n in 0..3 {
        producer.push(&message(n)).unwrap();
    }
    assert_eq!((producer.index(), consumer.index()), (3, 0));
    consumer.pop().unwrap();
    consumer.pop().unwrap();
    assert_eq!((producer.index(), consumer.index()), (3, 2));
    // They go on where the slots begin again.
    for n in 3..6 {
        producer.push(&message(n)).unwrap();
        consumer.pop().unwrap();
    }
    assert_eq!((producer.index(), consumer.index()), (6, 5));
}

/// The peer's index lies in the peer's cache line: who has room, or something to take, by the last look, leaves it alone.
#[test]
fn an_end_looks_at_its_peers_index_only_when_it_has_to() {
    const LIE: u64 = 0x7777;
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    producer.push(&message(0)).unwrap();
    ring.store64(HEAD, LIE).unwrap();
    for n in 1..4 {
        assert_eq!(producer.push(&message(n)), Ok(()), "there was room for {n}");
    }
    assert_eq!(producer.push(&message(4)), Err(PushError::Corrupt));
    assert_eq!(consumer.pop(), Ok(Some(message(0))));
    ring.store64(TAIL, LIE).unwrap();
    for n in 1..4 {
        assert_eq!(consumer.pop(), Ok(Some(message(n))));
    }
    assert_eq!(consumer.pop(), Err(RingError::Corrupt));
}

/// How far the consumer is, as its producer sees it: by index, so that a look later shows whether it went on meanwhile.
#[test]
fn a_producer_sees_how_far_its_consumer_is() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    assert_eq!(producer.progress(), Ok((0, 0)));
    for n in 0..3 {
        producer.push(&message(n)).unwrap();
    }
    assert_eq!(producer.progress(), Ok((0, 3)));
    // What is taken counts when its slot is given back.
    assert_eq!((consumer.take(), producer.progress()), (Ok(Some(message(0))), Ok((0, 3))));
    consumer.release();
    assert_eq!(producer.progress(), Ok((1, 2)));
    assert_eq!(consumer.pop(), Ok(Some(message(1))));
    assert_eq!(consumer.pop(), Ok(Some(message(2))));
    assert_eq!(producer.progress(), Ok((3, 0)));
    // As many again, and the index goes on.
    for n in 3..6 {
        producer.push(&message(n)).unwrap();
        assert_eq!(consumer.pop(), Ok(Some(message(n))));
    }
    assert_eq!(producer.progress(), Ok((6, 0)));
    ring.store64(HEAD, 0x7777).unwrap();
    assert_eq!(producer.progress(), Err(RingError::Corrupt));
}

#[test]
fn a_ring_of_one_slot_works() {
    let ring = ring_memory(1);
    let (mut producer, mut consumer) = ends(&ring, 1);
    assert_eq!((producer.capacity(), consumer.capacity()), (1, 1));
    for n in 0..3 {
        producer.push(&message(n)).unwrap();
        assert_eq!(producer.push(&message(n)), Err(PushError::Full));
        assert_eq!(consumer.pop(), Ok(Some(message(n))));
        assert_eq!(consumer.pop(), Ok(None));
    }
}

#[test]
fn a_batch_is_seen_when_it_is_published_and_its_slots_come_back_when_it_is_released() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    for n in 0..4 {
        producer.stage(&message(n)).unwrap();
    }
    assert_eq!(consumer.take(), Ok(None));
    producer.publish();
    for n in 0..4 {
        assert_eq!(consumer.take(), Ok(Some(message(n))));
    }
    assert_eq!(producer.stage(&message(4)), Err(PushError::Full));
    consumer.release();
    assert_eq!(producer.stage(&message(4)), Ok(()));
}

#[test]
fn a_message_lies_in_memory_as_the_abi_says() {
    let ring = ring_memory(2);
    let mut producer = Producer::attach_contiguous(&ring, 2).unwrap();
    producer.push(&Message { kind: 0x0a0b_0c0d, id: 0x0102_0304, words: [1, 2, 3, 4, 5, 6, 7] }).unwrap();
    assert_eq!(ring.read64(TAIL), Some(1));
    assert_eq!(ring.read32(HEADER_BYTES), Some(0x0a0b_0c0d));
    assert_eq!(ring.read32(HEADER_BYTES + 4), Some(0x0102_0304));
    for word in 1..8 {
        assert_eq!(ring.read64(HEADER_BYTES + word * 8), Some(word as u64));
    }
}

#[test]
fn header_and_slots_may_lie_apart() {
    let (header, slots) = (memory(HEADER_BYTES), memory(4 * 64));
    let mut producer = Producer::attach(&header, &slots, 4).unwrap();
    let mut consumer = Consumer::attach(&header, &slots, 4).unwrap();
    producer.push(&message(1)).unwrap();
    assert_eq!(consumer.pop(), Ok(Some(message(1))));
    assert_eq!(slots.read32(0), Some(7));
}

#[test]
fn memory_that_does_not_hold_the_ring_is_refused() {
    let ring = ring_memory(8);
    for slots in [0, 3, 8192, u32::MAX] {
        assert_eq!(Producer::attach(&ring, &ring, slots).err(), Some(AttachError::SlotCount), "{slots}");
    }
    for slots in [16, 4096] {
        assert_eq!(Consumer::attach_contiguous(&ring, slots).err(), Some(AttachError::Memory), "{slots}");
    }
    // The largest there may be, in memory that could hold twice as many.
    let large = ring_memory(2 * MAX_SLOTS);
    assert_eq!(Producer::attach_contiguous(&large, MAX_SLOTS).unwrap().capacity(), MAX_SLOTS);
    assert_eq!(Producer::attach_contiguous(&large, 2 * MAX_SLOTS).err(), Some(AttachError::SlotCount));
    let misaligned = ring.sub(4, 64 * 8).unwrap();
    assert_eq!(Producer::attach(&misaligned, &ring, 2).err(), Some(AttachError::Memory));
    assert_eq!(Producer::attach(&ring, &misaligned, 2).err(), Some(AttachError::Memory));
    assert_eq!(reset(&memory(HEADER_BYTES - 8)), Err(AttachError::Memory));
}

#[test]
fn indices_run_through_their_end() {
    for start in [u32::MAX, u32::MAX - 1, u32::MAX - 5, 0x7fff_ffff] {
        let ring = ring_memory(4);
        start_at(&ring, 3, start);
        let (mut producer, mut consumer) = ends(&ring, 4);
        for n in 0..20 {
            producer.push(&message(n)).unwrap();
            producer.push(&message(n + 100)).unwrap();
            assert_eq!(consumer.pop(), Ok(Some(message(n))));
            assert_eq!(consumer.pop(), Ok(Some(message(n + 100))));
            assert_eq!(consumer.pop(), Ok(None));
        }
        // The carry out of the index must not reach the epoch.
        assert_eq!(IndexWord::unpack(ring.read64(TAIL).unwrap()).epoch, 3);
        assert_eq!(ring.read64(TAIL), ring.read64(HEAD));
    }
}

#[test]
fn after_a_reset_both_ends_report_it_once_and_start_empty() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    for n in 0..3 {
        producer.push(&message(n)).unwrap();
    }
    assert_eq!(consumer.pop(), Ok(Some(message(0))));
    assert_eq!(reset(&ring), Ok(1));
    assert_eq!(producer.push(&message(10)), Err(PushError::EpochChanged));
    assert_eq!(consumer.pop(), Err(RingError::EpochChanged));
    assert_eq!(consumer.pop(), Ok(None));
    for n in 10..14 {
        producer.push(&message(n)).unwrap();
    }
    assert_eq!(producer.push(&message(14)), Err(PushError::Full));
    for n in 10..14 {
        assert_eq!(consumer.pop(), Ok(Some(message(n))));
    }
    assert_eq!((producer.check_epoch(), consumer.check_epoch()), (Ok(()), Ok(())));
}

#[test]
fn every_operation_reports_a_reset() {
    type Operation = fn(&mut Producer<SharedMemory>, &mut Consumer<SharedMemory>) -> bool;
    let operations: [(&str, Operation); 9] = [
        ("push", |p, _| p.push(&message(0)) == Err(PushError::EpochChanged)),
        ("stage", |p, _| p.stage(&message(0)) == Err(PushError::EpochChanged)),
        ("in_flight", |p, _| p.in_flight() == Err(RingError::EpochChanged)),
        ("producer.check_epoch", |p, _| p.check_epoch() == Err(RingError::EpochChanged)),
        ("pop", |_, c| c.pop() == Err(RingError::EpochChanged)),
        ("take", |_, c| c.take() == Err(RingError::EpochChanged)),
        ("available", |_, c| c.available() == Err(RingError::EpochChanged)),
        ("skip_all", |_, c| c.skip_all() == Err(RingError::EpochChanged)),
        ("consumer.check_epoch", |_, c| c.check_epoch() == Err(RingError::EpochChanged)),
    ];
    for filled in 0..=2 {
        for (name, operation) in &operations {
            let ring = ring_memory(2);
            let (mut producer, mut consumer) = ends(&ring, 2);
            for n in 0..filled {
                producer.push(&message(n)).unwrap();
            }
            reset(&ring).unwrap();
            // To announce a sleep finds the reset but does not swallow the report.
            assert!(!producer.prepare_wait() && !consumer.prepare_wait(), "{name}");
            assert!(operation(&mut producer, &mut consumer), "{name} with {filled} messages");
            assert!(!operation(&mut producer, &mut consumer), "{name} with {filled} messages, again");
        }
    }
}

#[test]
fn a_store_of_an_old_epoch_counts_for_nothing() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    producer.push(&message(1)).unwrap();
    reset(&ring).unwrap();
    // The producer was between its look at the epoch and its store of the index when the ring was reset.
    ring.store64(TAIL, IndexWord { epoch: 0, index: 2 }.pack()).unwrap();
    ring.store64(HEAD, IndexWord { epoch: 0, index: 1 }.pack()).unwrap();
    assert_eq!(consumer.pop(), Err(RingError::EpochChanged));
    assert_eq!(consumer.pop(), Ok(None));
    assert_eq!(producer.check_epoch(), Err(RingError::EpochChanged));
    assert_eq!(producer.in_flight(), Ok(0));
    producer.push(&message(5)).unwrap();
    assert_eq!(consumer.pop(), Ok(Some(message(5))));
}

#[test]
fn an_index_of_a_newer_epoch_is_a_reset_and_no_lie() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    for n in 0..6 {
        producer.push(&message(n)).unwrap();
        consumer.pop().unwrap();
    }
    reset(&ring).unwrap();
    let mut next = Producer::attach_contiguous(&ring, 4).unwrap();
    next.push(&message(7)).unwrap();
    assert_eq!(consumer.available(), Err(RingError::EpochChanged));
    assert_eq!(consumer.pop(), Ok(Some(message(7))));
}

#[test]
fn a_fresh_end_starts_at_zero_after_a_reset_and_goes_on_without_one() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    for n in 0..3 {
        producer.push(&message(n)).unwrap();
    }
    assert_eq!(consumer.pop(), Ok(Some(message(0))));
    let (mut producer, mut consumer) = ends(&ring, 4);
    assert_eq!(consumer.pop(), Ok(Some(message(1))));
    producer.push(&message(3)).unwrap();
    assert_eq!(producer.in_flight(), Ok(2));
    reset(&ring).unwrap();
    let mut fresh = Producer::attach_contiguous(&ring, 4).unwrap();
    fresh.push(&message(20)).unwrap();
    assert_eq!(consumer.pop(), Err(RingError::EpochChanged));
    assert_eq!(consumer.pop(), Ok(Some(message(20))));
    assert_eq!(consumer.pop(), Ok(None));
}

#[test]
fn the_epoch_runs_through_its_end() {
    let ring = ring_memory(2);
    start_at(&ring, u32::MAX, 5);
    let (mut producer, mut consumer) = ends(&ring, 2);
    assert_eq!(reset(&ring), Ok(0));
    assert_eq!(producer.check_epoch(), Err(RingError::EpochChanged));
    producer.push(&message(1)).unwrap();
    assert_eq!(consumer.pop(), Err(RingError::EpochChanged));
    assert_eq!(consumer.pop(), Ok(Some(message(1))));
}

#[test]
fn a_lying_producer_is_found_and_skipped() {
    let ring = ring_memory(4);
    let mut consumer = Consumer::attach_contiguous(&ring, 4).unwrap();
    for lie in [5, 6, 0x8000_0000, u64::from(u32::MAX)] {
        ring.store64(TAIL, lie).unwrap();
        assert_eq!(consumer.pop(), Err(RingError::Corrupt), "{lie:#x}");
        assert_eq!(consumer.available(), Err(RingError::Corrupt));
        assert!(consumer.prepare_wait());
        consumer.cancel_wait();
    }
    consumer.skip_all().unwrap();
    assert_eq!(consumer.pop(), Ok(None));
    assert_eq!(ring.read64(HEAD), Some(u64::from(u32::MAX)));
    let mut producer = Producer::attach_contiguous(&ring, 4).unwrap();
    producer.push(&message(1)).unwrap();
    assert_eq!(consumer.pop(), Ok(Some(message(1))));
}

#[test]
fn a_lying_consumer_is_found_and_counts_as_full() {
    let ring = ring_memory(4);
    let mut producer = Producer::attach_contiguous(&ring, 4).unwrap();
    ring.store64(HEAD, 1).unwrap();
    assert_eq!(producer.push(&message(0)), Err(PushError::Corrupt));
    assert_eq!(producer.in_flight(), Err(RingError::Corrupt));
    assert!(producer.prepare_wait());
    ring.store64(HEAD, 0).unwrap();
    assert!(!producer.prepare_wait());
    assert_eq!(producer.push(&message(0)), Ok(()));
}

#[test]
fn doorbells_are_wanted_only_by_who_sleeps() {
    let ring = ring_memory(2);
    let (mut producer, mut consumer) = ends(&ring, 2);
    assert!(!producer.consumer_waits() && !consumer.producer_waits());

    assert!(consumer.prepare_wait());
    assert!(producer.consumer_waits());
    producer.push(&message(0)).unwrap();
    assert!(producer.consumer_waits());
    consumer.cancel_wait();
    assert!(!producer.consumer_waits());
    assert!(!consumer.prepare_wait(), "there is a message");
    assert_eq!(ring.read32(CONSUMER_WAITS), Some(0));

    assert!(!producer.prepare_wait(), "there is a slot");
    assert_eq!(ring.read32(PRODUCER_WAITS), Some(0));
    producer.push(&message(1)).unwrap();
    assert!(producer.prepare_wait());
    assert!(consumer.producer_waits());
    producer.cancel_wait();
    assert!(!consumer.producer_waits());
    assert!(producer.prepare_wait());
    assert!(consumer.producer_waits());
    consumer.pop().unwrap();
    assert!(!producer.prepare_wait());
    assert!(!consumer.producer_waits());
}

#[test]
fn a_fresh_end_clears_the_flag_that_its_predecessor_left() {
    let ring = ring_memory(1);
    let (mut producer, mut consumer) = ends(&ring, 1);
    assert!(consumer.prepare_wait());
    producer.push(&message(0)).unwrap();
    assert!(producer.prepare_wait());
    let (producer, consumer) = ends(&ring, 1);
    assert!(!producer.consumer_waits() && !consumer.producer_waits());
}

#[test]
fn errors_say_what_they_mean() {
    use ring::ReserveError;
    let slot_count = AttachError::SlotCount.to_string();
    assert_eq!(slot_count, "the number of slots is not a power of two within the limits");
    assert_eq!(AttachError::Memory.to_string(), "the memory is too small for the ring, or not aligned");
    assert_eq!(ReserveError::Full.to_string(), "the ring is full");
    assert_eq!(ReserveError::TooLong.to_string(), "the packet is too long for the ring");
    assert_eq!(PushError::Full.to_string(), "the ring is full");
    for (error, text) in
        [(RingError::EpochChanged, "the ring was reset"), (RingError::Corrupt, "the peer wrote what cannot be")]
    {
        assert_eq!(error.to_string(), text);
        assert_eq!(PushError::from(error).to_string(), text);
        assert_eq!(ReserveError::from(PushError::from(error)).to_string(), text);
    }
}
