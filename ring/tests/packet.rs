//! Packet rings: records, pads, and what is refused.

mod common;

use abi::ring::{HEAD, HEADER_BYTES, PACKET_FRAME, PACKET_PAD, TAIL};
use common::{memory, ring_memory, start_at};
use ring::{PacketConsumer, PacketProducer, PeekError, Record, ReserveError, RingError, SharedMemory, reset};

fn ends(ring: &SharedMemory, slots: u32) -> (PacketProducer<SharedMemory>, PacketConsumer<SharedMemory>) {
    (PacketProducer::attach_contiguous(ring, slots).unwrap(), PacketConsumer::attach_contiguous(ring, slots).unwrap())
}

fn pop(consumer: &mut PacketConsumer<SharedMemory>) -> Result<Option<Vec<u8>>, PeekError> {
    let Some(record) = consumer.peek()? else { return Ok(None) };
    let mut packet = vec![0; record.len];
    consumer.read(&record, 0, &mut packet).unwrap();
    consumer.advance()?;
    Ok(Some(packet))
}

/// A packet header as the abi defines it, as one word.
fn header(len: u16, kind: u16, slots: u16, reserved: u16) -> u64 {
    u64::from(len) | u64::from(kind) << 16 | u64::from(slots) << 32 | u64::from(reserved) << 48
}

#[test]
fn packets_come_out_as_they_went_in() {
    let ring = ring_memory(64);
    let (mut producer, mut consumer) = ends(&ring, 64);
    for len in [0, 1, 55, 56, 57, 60, 119, 120, 121, 1514] {
        let packet: Vec<u8> = (0_u8..=255).cycle().take(len).collect();
        producer.push(&packet).unwrap();
        assert_eq!(pop(&mut consumer), Ok(Some(packet)), "{len}");
        assert_eq!(pop(&mut consumer), Ok(None));
    }
}

#[test]
fn a_record_lies_in_memory_as_the_abi_says() {
    let ring = ring_memory(8);
    start_at(&ring, 0, 6);
    let (mut producer, mut consumer) = ends(&ring, 8);
    assert_eq!(producer.written(), 6);
    producer.push(&[0xaa; 57 + 64]).unwrap();
    assert_eq!(producer.written(), 6 + 2 + 3, "the pad's slots as well");
    let slots = HEADER_BYTES;
    // Three slots do not fit into the last two.
    assert_eq!(ring.read64(slots + 6 * 64), Some(header(0, PACKET_PAD, 2, 0)));
    assert_eq!(ring.read64(slots), Some(header(121, PACKET_FRAME, 3, 0)));
    assert_eq!(ring.read8(slots + 8), Some(0xaa));
    assert_eq!(ring.read64(TAIL), Some(11));
    assert_eq!(consumer.peek(), Ok(Some(Record { offset: 8, len: 121, segment: 0 })));
    assert_eq!(ring.read64(HEAD), Some(8), "the pad's slots are free at once");
    consumer.advance().unwrap();
    assert_eq!(ring.read64(HEAD), Some(11));
}

#[test]
fn one_copy_from_another_memory_and_to_another() {
    let ring = ring_memory(64);
    let (mut producer, mut consumer) = ends(&ring, 64);
    let (source, target) = (memory(2048), memory(2048));
    source.write(100, &[7; 300]).unwrap();
    let mut reservation = producer.reserve(300).unwrap();
    assert_eq!(reservation.copy_from(0, &source, 100, 301), None);
    assert_eq!(reservation.copy_from(1, &source, 100, 300), None);
    assert_eq!(reservation.copy_from(0, &source, 1800, 300), None);
    reservation.copy_from(0, &source, 100, 300).unwrap();
    source.write(500, &[5; 4]).unwrap();
    reservation.copy_from(200, &source, 500, 4).unwrap();
    reservation.write(299, &[8]).unwrap();
    assert_eq!(reservation.write(300, &[8]), None);
    assert_eq!((reservation.len(), reservation.payload().unwrap().len()), (300, 300));
    assert!(!reservation.is_empty());
    reservation.commit();
    let record = consumer.peek().unwrap().unwrap();
    assert_eq!(consumer.copy_to(&record, &target, 1749), None);
    consumer.copy_to(&record, &target, 8).unwrap();
    assert_eq!(
        (target.read8(7), target.read8(8), target.read8(307), target.read8(308)),
        (Some(0), Some(7), Some(8), Some(0))
    );
    let payload = consumer.payload(&record).unwrap();
    assert_eq!(payload.read8(299), Some(8));
    assert_eq!((payload.read8(199), payload.read32(200), payload.read8(204)), (Some(7), Some(0x0505_0505), Some(7)));
    assert_eq!(consumer.read(&record, 299, &mut [0; 2]), None);
    consumer.advance().unwrap();
    assert_eq!(consumer.copy_to(&record, &target, 8), None, "the record was given back");
}

#[test]
fn a_reservation_that_is_dropped_leaves_nothing() {
    let ring = ring_memory(8);
    start_at(&ring, 0, 7);
    let (mut producer, mut consumer) = ends(&ring, 8);
    let _ = producer.reserve(100).unwrap();
    assert!(producer.reserve(0).unwrap().is_empty());
    assert_eq!(pop(&mut consumer), Ok(None));
    producer.push(b"x").unwrap();
    assert_eq!(pop(&mut consumer), Ok(Some(b"x".to_vec())));
}

#[test]
fn a_batch_is_seen_when_it_is_published_and_comes_back_when_it_is_released() {
    let ring = ring_memory(4);
    let (mut producer, mut consumer) = ends(&ring, 4);
    for n in 0..4 {
        let mut reservation = producer.reserve(1).unwrap();
        reservation.write(0, &[n]).unwrap();
        reservation.stage();
    }
    assert_eq!((consumer.peek(), consumer.available()), (Ok(None), Ok(0)));
    producer.publish();
    assert_eq!(consumer.available(), Ok(4));
    for n in 0..4 {
        let record = consumer.peek().unwrap().unwrap();
        assert_eq!(consumer.peek(), Ok(Some(record)), "the same until it is passed");
        let mut byte = [0];
        consumer.read(&record, 0, &mut byte).unwrap();
        assert_eq!(byte, [n]);
        consumer.pass().unwrap();
    }
    assert_eq!(producer.push(&[]), Err(ReserveError::Full));
    assert_eq!(producer.in_flight(), Ok(4));
    consumer.release();
    producer.push(&[]).unwrap();
}

/// A record that takes half of the ring fits into an empty ring wherever the index stands; a longer one is refused at once.
#[test]
fn whatever_is_not_too_long_fits_at_last() {
    for at in 0..32 {
        let ring = ring_memory(16);
        start_at(&ring, 0, at);
        let (mut producer, mut consumer) = ends(&ring, 16);
        assert_eq!(producer.max_len(), 8 * 64 - 8);
        assert_eq!(producer.push(&[1; 8 * 64 - 7]), Err(ReserveError::TooLong));
        assert_eq!(producer.push(&[1; 70_000]), Err(ReserveError::TooLong));
        assert!(!producer.prepare_wait(70_000), "would sleep for ever");
        producer.push(&[1; 8 * 64 - 8]).unwrap();
        let second = producer.push(&[2; 8 * 64 - 8]);
        assert_eq!(second, if at % 8 == 0 { Ok(()) } else { Err(ReserveError::Full) }, "{at}");
        assert_eq!(pop(&mut consumer), Ok(Some(vec![1; 8 * 64 - 8])));
        if second.is_ok() {
            assert_eq!(pop(&mut consumer), Ok(Some(vec![2; 8 * 64 - 8])));
        }
    }
}

#[test]
fn the_producer_waits_for_as_much_space_as_its_packet_takes() {
    let ring = ring_memory(8);
    let (mut producer, mut consumer) = ends(&ring, 8);
    for n in 0..7 {
        producer.push(&[n]).unwrap();
    }
    // One slot to the end, then three: four must be free.
    for n in 0..3 {
        assert!(producer.prepare_wait(180), "{n}");
        assert!(consumer.producer_waits());
        assert_eq!(pop(&mut consumer), Ok(Some(vec![n])));
    }
    assert!(!producer.prepare_wait(180));
    assert!(!consumer.producer_waits());
    producer.push(&[9; 180]).unwrap();
    for n in 3..7 {
        assert_eq!(pop(&mut consumer), Ok(Some(vec![n])));
    }
    assert_eq!(pop(&mut consumer), Ok(Some(vec![9; 180])));
    assert!(consumer.prepare_wait());
    assert!(producer.consumer_waits());
    consumer.cancel_wait();
    assert!(!producer.consumer_waits());
}

#[test]
fn records_that_make_no_sense_are_refused_and_skipped() {
    // Index, filled slots, record.
    let cases = [
        ("kind", 0, 4, header(10, 0, 1, 0)),
        ("kind", 0, 4, header(10, 3, 1, 0)),
        ("reserved", 0, 4, header(10, PACKET_FRAME, 1, 1)),
        ("no slots", 0, 4, header(0, PACKET_FRAME, 0, 0)),
        ("longer than its slots", 0, 4, header(57, PACKET_FRAME, 1, 0)),
        ("shorter than its slots", 0, 4, header(56, PACKET_FRAME, 2, 0)),
        ("beyond what is filled", 0, 2, header(180, PACKET_FRAME, 3, 0)),
        ("beyond the end", 6, 4, header(180, PACKET_FRAME, 3, 0)),
        ("beyond the ring", 0, 8, header(0xffff, PACKET_FRAME, 1025, 0)),
        ("slots wrap", 0, 8, header(0xffff, PACKET_FRAME, 0xffff, 0)),
        ("pad of no slots", 6, 4, header(0, PACKET_PAD, 0, 0)),
        ("pad beyond the end", 6, 4, header(0, PACKET_PAD, 3, 0)),
        ("pad short of the end", 6, 4, header(0, PACKET_PAD, 1, 0)),
        ("pad with bytes", 6, 4, header(1, PACKET_PAD, 2, 0)),
        ("pad with reserved bits", 6, 4, header(0, PACKET_PAD, 2, 8)),
        ("pad beyond what is filled", 6, 1, header(0, PACKET_PAD, 2, 0)),
        ("pad of the whole ring", 0, 8, header(0, PACKET_PAD, 8, 0)),
    ];
    for (what, at, filled, word) in cases {
        let ring = ring_memory(8);
        start_at(&ring, 0, at);
        let mut consumer = PacketConsumer::attach_contiguous(&ring, 8).unwrap();
        ring.store64(HEADER_BYTES + (at as usize % 8) * 64, word).unwrap();
        ring.store64(TAIL, u64::from(at + filled)).unwrap();
        for _ in 0..2 {
            assert_eq!(consumer.peek(), Err(PeekError::Corrupt), "{what}");
        }
        assert_eq!(ring.read64(HEAD), Some(u64::from(at)), "{what}");
        consumer.skip_all().unwrap();
        assert_eq!(consumer.peek(), Ok(None), "{what}");
        let mut producer = PacketProducer::attach_contiguous(&ring, 8).unwrap();
        producer.push(b"good").unwrap();
        assert_eq!(pop(&mut consumer), Ok(Some(b"good".to_vec())), "{what}");
    }
}

#[test]
fn a_second_pad_in_a_row_is_refused() {
    let ring = ring_memory(8);
    start_at(&ring, 0, 6);
    let mut consumer = PacketConsumer::attach_contiguous(&ring, 8).unwrap();
    ring.store64(HEADER_BYTES + 6 * 64, header(0, PACKET_PAD, 2, 0)).unwrap();
    ring.store64(HEADER_BYTES, header(0, PACKET_PAD, 8, 0)).unwrap();
    ring.store64(TAIL, 14).unwrap();
    assert_eq!(consumer.peek(), Err(PeekError::Corrupt));

    let ring = ring_memory(8);
    start_at(&ring, 0, 6);
    let mut consumer = PacketConsumer::attach_contiguous(&ring, 8).unwrap();
    ring.store64(HEADER_BYTES + 6 * 64, header(0, PACKET_PAD, 2, 0)).unwrap();
    ring.store64(TAIL, 8).unwrap();
    assert_eq!(consumer.peek(), Ok(None), "a pad alone is no packet");
    assert_eq!(ring.read64(HEAD), Some(8));
}

#[test]
fn a_header_that_is_changed_behind_our_back_changes_nothing() {
    let ring = ring_memory(8);
    let (mut producer, mut consumer) = ends(&ring, 8);
    producer.push(&[1; 100]).unwrap();
    let record = consumer.peek().unwrap().unwrap();
    ring.store64(HEADER_BYTES, header(0xffff, PACKET_FRAME, 1025, 0)).unwrap();
    assert_eq!(consumer.peek(), Ok(Some(record)));
    consumer.advance().unwrap();
    assert_eq!(ring.read64(HEAD), Some(2));
}

#[test]
fn only_the_record_that_was_looked_at_last_is_read_and_only_within() {
    let ring = ring_memory(8);
    let (mut producer, mut consumer) = ends(&ring, 8);
    producer.push(&[1; 100]).unwrap();
    producer.push(&[2; 60]).unwrap();
    let first = consumer.peek().unwrap().unwrap();
    assert_eq!(consumer.read(&first, 90, &mut [0; 10]), Some(()));
    assert_eq!(consumer.read(&first, 91, &mut [0; 10]), None, "one byte beyond its end");
    assert_eq!(consumer.read(&first, 0, &mut [0; 101]), None);
    consumer.advance().unwrap();
    assert_eq!(consumer.read(&first, 0, &mut [0; 10]), None, "nothing is looked at");
    let second = consumer.peek().unwrap().unwrap();
    let mut bytes = [0; 10];
    assert_eq!(consumer.read(&first, 0, &mut bytes), None, "its slots are the producer's again");
    assert_eq!((consumer.payload(&first).is_none(), consumer.copy_to(&first, &memory(128), 0)), (true, None));
    assert_eq!((consumer.read(&second, 50, &mut bytes), bytes), (Some(()), [2; 10]));
}

#[test]
fn a_reset_drops_the_packet_that_was_looked_at() {
    let ring = ring_memory(8);
    let (mut producer, mut consumer) = ends(&ring, 8);
    producer.push(&[1; 100]).unwrap();
    let record = consumer.peek().unwrap().unwrap();
    reset(&ring).unwrap();
    assert_eq!(producer.push(&[2]), Err(ReserveError::EpochChanged));
    producer.push(&[2]).unwrap();
    assert_eq!(consumer.advance(), Err(RingError::EpochChanged));
    assert!(consumer.payload(&record).is_none());
    assert_eq!(pop(&mut consumer), Ok(Some(vec![2])));

    producer.push(&[3]).unwrap();
    consumer.peek().unwrap().unwrap();
    reset(&ring).unwrap();
    assert_eq!(consumer.peek(), Err(PeekError::EpochChanged));
    assert_eq!(consumer.peek(), Ok(None));
    assert_eq!(consumer.available(), Ok(0));
    assert_eq!(producer.in_flight(), Err(RingError::EpochChanged));
    assert_eq!((producer.check_epoch(), consumer.check_epoch()), (Ok(()), Ok(())));
}

#[test]
fn a_lying_consumer_counts_as_full() {
    let ring = ring_memory(8);
    let mut producer = PacketProducer::attach_contiguous(&ring, 8).unwrap();
    ring.store64(HEAD, 1).unwrap();
    assert_eq!(producer.push(&[1]), Err(ReserveError::Corrupt));
    assert!(producer.prepare_wait(1));
    ring.store64(HEAD, 0).unwrap();
    producer.push(&[1]).unwrap();
}

#[test]
fn a_producer_that_wakes_up_wants_no_more_doorbells() {
    let ring = ring_memory(2);
    let (mut producer, consumer) = ends(&ring, 2);
    assert_eq!((producer.capacity(), consumer.capacity()), (2, 2));
    producer.push(&[]).unwrap();
    producer.push(&[]).unwrap();
    assert!(producer.prepare_wait(0));
    assert!(consumer.producer_waits());
    producer.cancel_wait();
    assert!(!consumer.producer_waits());
}

#[test]
fn a_producer_does_not_wait_for_what_fits_or_never_will() {
    let ring = ring_memory(8);
    let (mut producer, _) = ends(&ring, 8);
    for n in 0..6 {
        producer.push(&[n]).unwrap();
    }
    // Two slots are free, and they are the last ones before the wrap: no pad is needed.
    assert!(!producer.prepare_wait(100));
    producer.push(&[9; 100]).unwrap();
    // Full; what takes half of the ring fits some day, one byte more never does.
    assert!(producer.prepare_wait(4 * 64 - 8));
    assert!(!producer.prepare_wait(4 * 64 - 7));
}

#[test]
fn a_producer_that_only_asks_is_told_of_a_reset() {
    let ring = ring_memory(8);
    let (mut producer, _) = ends(&ring, 8);
    reset(&ring).unwrap();
    assert_eq!(producer.check_epoch(), Err(RingError::EpochChanged));
    assert_eq!(producer.check_epoch(), Ok(()));
}

#[test]
fn the_longest_packet_is_half_of_the_ring_and_no_longer_than_its_length_can_say() {
    // Miri interprets the copy of each byte.
    let largest = if cfg!(miri) { 16 } else { 4096 };
    let cases = [(1, 0), (2, 56), (16, 504), (2048, 65528), (4096, 65535)];
    for (slots, longest) in cases.into_iter().filter(|&(slots, _)| slots <= largest) {
        let ring = ring_memory(slots);
        let (mut producer, mut consumer) = ends(&ring, slots);
        assert_eq!(producer.max_len(), longest, "{slots}");
        assert_eq!(producer.push(&vec![1; longest + 1]), Err(ReserveError::TooLong), "{slots}");
        if slots > 1 {
            producer.push(&vec![1; longest]).unwrap();
            assert_eq!(pop(&mut consumer), Ok(Some(vec![1; longest])), "{slots}");
        }
    }
}

#[test]
fn several_packets_in_one_record_say_how_large_each_is() {
    let ring = ring_memory(64);
    let (mut producer, mut consumer) = ends(&ring, 64);
    // They lie behind another packet of two slots.
    producer.push(&[9; 60]).expect("space");
    assert_eq!(pop(&mut consumer), Ok(Some(vec![9; 60])));
    let mut record = producer.reserve(700).expect("space");
    record.write(0, &[7; 700]).expect("as long as that");
    record.cut(600);
    record.commit();
    producer.push(&[8; 60]).expect("space");
    let record = Record { offset: 2 * 64 + 8, len: 700, segment: 600 };
    assert_eq!(consumer.peek(), Ok(Some(record)));
    let mut bytes = [0; 700];
    consumer.read(&record, 0, &mut bytes).expect("what was peeked");
    assert_eq!(bytes, [7; 700]);
    consumer.advance().expect("no reset");
    assert!(consumer.peek().expect("good").is_some_and(|record| (record.len, record.segment) == (60, 0)));
    consumer.advance().expect("no reset");
    // Of none in each there are none.
    let mut record = producer.reserve(700).expect("space");
    record.cut(0);
    record.commit();
    assert_eq!(consumer.peek(), Err(PeekError::Corrupt));
}
