//! The wrap record: a quiet ring stays on its first page, no capacity is lost, and lies about it harm the liar.

mod common;

use abi::ring::{EPOCH, HEAD, HEADER_BYTES, IndexWord, PACKET_FRAME, TAIL, WRAP, WRAP_VALID};
use common::{Random, ring_memory, start_at};
use ring::{PacketConsumer, PacketProducer, PeekError, ReserveError, SharedMemory, reset, reset_to};

const SLOTS: u32 = 256;

fn ends(ring: &SharedMemory) -> (PacketProducer<SharedMemory>, PacketConsumer<SharedMemory>) {
    (PacketProducer::attach_contiguous(ring, SLOTS).unwrap(), PacketConsumer::attach_contiguous(ring, SLOTS).unwrap())
}

fn pop(consumer: &mut PacketConsumer<SharedMemory>) -> Result<Option<Vec<u8>>, PeekError> {
    let Some(record) = consumer.peek()? else { return Ok(None) };
    let mut packet = vec![0; record.len];
    consumer.read(&record, 0, &mut packet).unwrap();
    consumer.advance()?;
    Ok(Some(packet))
}

fn word(epoch: u32, index: u32) -> u64 {
    IndexWord { epoch, index }.pack()
}

/// A packet of so many slots, with a byte to tell it by.
fn packet(slots: usize, byte: u8) -> Vec<u8> {
    vec![byte; slots * 64 - 8]
}

#[test]
fn a_quiet_ring_stays_on_its_first_page() {
    for start in [0, 17, u32::MAX - 500] {
        let ring = ring_memory(SLOTS);
        start_at(&ring, 3, start & !(SLOTS - 1));
        let (mut producer, mut consumer) = ends(&ring);
        let mut random = Random::new(1);
        for n in 0..if cfg!(miri) { 50 } else { 2000 } {
            let sent: Vec<u8> = vec![random.byte(); random.index(1515)];
            producer.push(&sent).unwrap();
            let record = consumer.peek().unwrap().unwrap();
            assert!(record.offset + record.len <= 4096, "packet {n} at {record:?}");
            assert_eq!(pop(&mut consumer), Ok(Some(sent)), "{n}");
            assert_eq!(pop(&mut consumer), Ok(None), "{n}");
        }
    }
}

#[test]
fn a_ring_that_was_busy_comes_back_to_its_first_page() {
    let ring = ring_memory(SLOTS);
    let (mut producer, mut consumer) = ends(&ring);
    for n in 0..50 {
        producer.push(&packet(3, n)).unwrap();
    }
    for n in 0..50 {
        assert_eq!(pop(&mut consumer), Ok(Some(packet(3, n))));
    }
    assert_eq!((producer.page(), consumer.page()), (2, 2));
    // What fits into the page that it is on begins there, the next one at slot 0.
    for (slots, page) in [(24, 2), (24, 0), (24, 0), (24, 0)] {
        producer.push(&packet(slots, 9)).unwrap();
        assert_eq!(consumer.peek().unwrap().unwrap().offset / 4096, page);
        assert_eq!(pop(&mut consumer), Ok(Some(packet(slots, 9))));
    }
}

#[test]
fn the_word_is_as_the_abi_says_and_goes_when_the_consumer_has_gone_along() {
    let ring = ring_memory(SLOTS);
    start_at(&ring, 7, 512 + 60);
    let (mut producer, mut consumer) = ends(&ring);
    producer.push(&packet(5, 1)).unwrap();
    assert_eq!(ring.read64(WRAP), Some(word(7, 768 | WRAP_VALID)));
    assert_eq!(ring.read64(TAIL), Some(word(7, 768 + 5)));
    assert_eq!(ring.read64(HEADER_BYTES), Some((5 * 64 - 8) | u64::from(PACKET_FRAME) << 16 | 5 << 32));
    assert_eq!(ring.read64(HEAD), Some(word(7, 512 + 60)));
    assert_eq!(producer.in_flight(), Ok(5));
    assert_eq!(pop(&mut consumer), Ok(Some(packet(5, 1))));
    assert_eq!(ring.read64(HEAD), Some(word(7, 768 + 5)));
    assert_eq!(producer.in_flight(), Ok(0));
    assert_eq!(ring.read64(WRAP), Some(0));
}

/// What a pad would cost: with it, two slots fewer than stand before the wrap would be left for a burst.
#[test]
fn a_wrap_takes_no_space() {
    let ring = ring_memory(SLOTS);
    start_at(&ring, 0, 63);
    let (mut producer, mut consumer) = ends(&ring);
    for n in 0..128 {
        producer.push(&packet(2, n)).unwrap();
    }
    assert_eq!(producer.push(&[]), Err(ReserveError::Full));
    assert_eq!((producer.in_flight(), consumer.available()), (Ok(256), Ok(256)));
    for n in 0..128 {
        assert_eq!(pop(&mut consumer), Ok(Some(packet(2, n))));
    }
    assert_eq!(pop(&mut consumer), Ok(None));
}

#[test]
fn a_ring_that_is_not_empty_is_not_wrapped() {
    let ring = ring_memory(SLOTS);
    let (mut producer, mut consumer) = ends(&ring);
    producer.push(&packet(62, 1)).unwrap();
    let second = producer.reserve(1000).unwrap();
    second.stage();
    assert_eq!(ring.read64(WRAP), Some(0));
    producer.publish();
    assert_eq!(pop(&mut consumer), Ok(Some(packet(62, 1))));
    assert_eq!(consumer.peek().unwrap().unwrap().offset, 62 * 64 + 8);
    // Taken, but not given back: the producer may not write there yet.
    consumer.pass().unwrap();
    producer.push(&packet(64, 3)).unwrap();
    assert_eq!(ring.read64(WRAP), Some(0));
}

/// The consumer has announced that it sleeps when the producer wraps: it must not sleep on.
#[test]
fn a_consumer_asleep_wakes_up_to_a_wrap() {
    let ring = ring_memory(SLOTS);
    start_at(&ring, 0, 200);
    let (mut producer, mut consumer) = ends(&ring);
    assert!(consumer.prepare_wait());
    producer.push(&packet(24, 1)).unwrap();
    assert!(producer.consumer_waits());
    consumer.cancel_wait();
    assert!(!consumer.prepare_wait());
    assert_eq!(pop(&mut consumer), Ok(Some(packet(24, 1))));
    assert!(consumer.prepare_wait());
}

#[test]
fn a_producer_waits_for_space_behind_a_wrap() {
    let ring = ring_memory(SLOTS);
    start_at(&ring, 0, 100);
    let (mut producer, mut consumer) = ends(&ring);
    for n in 0..10 {
        producer.push(&packet(24, n)).unwrap();
    }
    assert_eq!(producer.push(&packet(24, 10)), Err(ReserveError::Full));
    assert_eq!((producer.has_room(24 * 64 - 8), producer.has_room(16 * 64 - 8)), (Ok(false), Ok(true)));
    assert!(producer.prepare_wait(24 * 64 - 8));
    assert_eq!(pop(&mut consumer), Ok(Some(packet(24, 0))));
    assert!(consumer.producer_waits());
    assert!(!producer.prepare_wait(24 * 64 - 8));
    producer.push(&packet(24, 10)).unwrap();
    for n in 1..11 {
        assert_eq!(pop(&mut consumer), Ok(Some(packet(24, n))));
    }
}

/// Lies of a producer: the wrap word and the tail of a ring in which the consumer stands at 300, with what it was to take.
#[test]
fn wraps_that_make_no_sense_are_none() {
    let here = 300;
    let cases = [
        ("not to slot 0", word(0, 520 | WRAP_VALID), 523),
        ("another epoch's", word(1, 512 | WRAP_VALID), 515),
        ("not valid", word(0, 512), 515),
        ("beyond the tail", word(0, 512 | WRAP_VALID), 511),
        ("a round too far", word(0, 768 | WRAP_VALID), 771),
        ("behind", word(0, 256 | WRAP_VALID), 300 + 257),
        ("full beyond it", word(0, 512 | WRAP_VALID), 512 + 257),
    ];
    for (what, wrap, tail) in cases {
        let ring = ring_memory(SLOTS);
        start_at(&ring, 0, here);
        let (_, mut consumer) = ends(&ring);
        ring.store64(WRAP, wrap).unwrap();
        ring.store64(TAIL, tail).unwrap();
        for _ in 0..2 {
            assert_eq!(consumer.peek(), Err(PeekError::Corrupt), "{what}");
        }
        assert_eq!(ring.read64(HEAD), Some(here.into()), "{what}");
        consumer.skip_all().unwrap();
        // Whoever comes to his senses is heard.
        let mut producer = PacketProducer::attach_contiguous(&ring, SLOTS).unwrap();
        producer.push(b"good").unwrap();
        assert_eq!(pop(&mut consumer), Ok(Some(b"good".to_vec())), "{what}");
    }
}

/// A wrap while the consumer knows of packets that it has not taken counts only when they are taken.
#[test]
fn a_wrap_in_a_ring_that_is_not_empty_drops_nothing_that_is_known() {
    let ring = ring_memory(SLOTS);
    let (mut producer, mut consumer) = ends(&ring);
    for n in 0..3 {
        producer.push(&packet(4, n)).unwrap();
    }
    assert_eq!(pop(&mut consumer), Ok(Some(packet(4, 0))));
    ring.store64(WRAP, word(0, 256 | WRAP_VALID)).unwrap();
    ring.store64(TAIL, 256 + 8).unwrap();
    assert_eq!(pop(&mut consumer), Ok(Some(packet(4, 1))));
    assert_eq!(pop(&mut consumer), Ok(Some(packet(4, 2))));
    // From here on it is a wrap like any other: what stands at slot 0 comes again.
    assert_eq!(pop(&mut consumer), Ok(Some(packet(4, 0))));
}

/// Lies of a consumer after a wrap: the ring counts as full, and works again when the truth is told.
#[test]
fn a_consumer_that_lies_about_a_wrap_makes_the_ring_full() {
    for lie in [0, 255, 256 + 4, 512 + 6, 1 << 31, u32::MAX] {
        let ring = ring_memory(SLOTS);
        start_at(&ring, 0, 256 + 60);
        let (mut producer, mut consumer) = ends(&ring);
        producer.push(&packet(5, 1)).unwrap();
        ring.store64(HEAD, lie.into()).unwrap();
        let seen = producer.in_flight();
        if (257..512).contains(&lie) {
            assert_eq!(seen, Ok(5), "{lie}: as good as the truth");
        } else {
            assert_eq!(seen, Err(ring::RingError::Corrupt), "{lie}");
        }
        assert_eq!(pop(&mut consumer), Ok(Some(packet(5, 1))), "{lie}");
        assert_eq!(producer.in_flight(), Ok(0), "{lie}");
        producer.push(&packet(60, 2)).unwrap();
        assert_eq!(pop(&mut consumer), Ok(Some(packet(60, 2))), "{lie}");
    }
}

#[test]
fn successors_find_a_wrap_that_is_under_way() {
    // Before the tail was stored, and after; each end is replaced, and none, and both.
    for published in [false, true] {
        for replaced in 0..4 {
            let ring = ring_memory(SLOTS);
            start_at(&ring, 2, 60);
            let (mut producer, mut consumer) = ends(&ring);
            let reservation = producer.reserve(packet(5, 1).len()).unwrap();
            assert_eq!(ring.read64(WRAP), Some(word(2, 256 | WRAP_VALID)));
            if published {
                reservation.commit();
            } else {
                drop(reservation);
            }
            if replaced & 1 != 0 {
                producer = PacketProducer::attach_contiguous(&ring, SLOTS).unwrap();
            }
            if replaced & 2 != 0 {
                consumer = PacketConsumer::attach_contiguous(&ring, SLOTS).unwrap();
            }
            let what = format!("published {published}, replaced {replaced}");
            if published {
                assert_eq!(producer.in_flight(), Ok(5), "{what}");
                assert_eq!(consumer.peek().unwrap().unwrap().len, packet(5, 1).len(), "{what}");
                consumer.advance().unwrap();
            }
            for n in 2..20 {
                producer.push(&packet(24, n)).unwrap();
                assert_eq!(pop(&mut consumer), Ok(Some(packet(24, n))), "{what}");
            }
        }
    }
}

#[test]
fn a_reset_ends_a_wrap() {
    for believing in [true, false] {
        let ring = ring_memory(SLOTS);
        start_at(&ring, 0, 60);
        let (mut producer, mut consumer) = ends(&ring);
        producer.push(&packet(5, 1)).unwrap();
        let epoch = if believing { reset(&ring) } else { reset_to(&ring, 77) }.unwrap();
        assert_eq!(ring.read32(EPOCH), Some(epoch));
        assert_eq!(ring.read64(WRAP), Some(if believing { word(0, 256 | WRAP_VALID) } else { 0 }));
        assert_eq!(producer.push(&[]), Err(ReserveError::EpochChanged));
        assert_eq!(consumer.peek(), Err(PeekError::EpochChanged));
        for n in 0..200 {
            producer.push(&packet(2, n)).unwrap();
            assert_eq!(pop(&mut consumer), Ok(Some(packet(2, n))), "{n}");
        }
    }
}

/// An index of 2^32 must not be taken for a wrap by a consumer whose producer never stores one.
#[test]
fn the_indices_come_round() {
    for wraps in [true, false] {
        let ring = ring_memory(SLOTS);
        start_at(&ring, 0, 0_u32.wrapping_sub(300));
        let (mut producer, mut consumer) = ends(&ring);
        for n in 0..100 {
            producer.push(&packet(7, n)).unwrap();
            if !wraps {
                // As a producer that knows nothing of wraps: the ring is never empty.
                producer.push(&packet(1, n)).unwrap();
            }
            assert_eq!(pop(&mut consumer), Ok(Some(packet(7, n))), "{n}");
            if !wraps {
                assert_eq!(pop(&mut consumer), Ok(Some(packet(1, n))), "{n}");
            }
        }
    }
}

/// A ring whose pages come one by one is touched only where they are.
#[test]
fn pages_are_named_before_they_are_touched() {
    let ring = ring_memory(SLOTS);
    let slots = ring.sub(HEADER_BYTES, SLOTS as usize * 64).unwrap();
    let mut producer = PacketProducer::attach_sparse(&ring, &slots, SLOTS).unwrap();
    let mut consumer = PacketConsumer::attach_sparse(&ring, &slots, SLOTS).unwrap();
    assert_eq!(producer.push(&packet(2, 1)), Err(ReserveError::NoPage(0)));
    assert_eq!(producer.push(&packet(2, 1)), Err(ReserveError::NoPage(0)));
    assert_eq!(slots.read64(0), Some(0), "nothing was done");
    producer.give_page(0);
    producer.push(&packet(60, 1)).unwrap();
    assert_eq!(producer.push(&packet(24, 2)), Err(ReserveError::NoPage(1)));
    producer.push(&packet(4, 2)).unwrap();
    assert_eq!(producer.push(&packet(100, 3)), Err(ReserveError::NoPage(1)));
    producer.give_page(1);
    assert_eq!(producer.push(&packet(100, 3)), Err(ReserveError::NoPage(2)));
    producer.give_page(2);
    producer.push(&packet(100, 3)).unwrap();
    assert_eq!(producer.pages(), 0b111);

    assert_eq!(consumer.available(), Ok(164));
    for page in 0..3 {
        assert_eq!(consumer.peek(), Err(PeekError::NoPage(page)));
        assert!(!consumer.prepare_wait());
        consumer.give_page(page);
    }
    for (slots, byte) in [(60, 1), (4, 2), (100, 3)] {
        assert_eq!(pop(&mut consumer), Ok(Some(packet(slots, byte))));
    }
    // The ring is empty: its pages go, and come when they are wanted.
    consumer.take_pages(0b101);
    producer.take_pages(0b101);
    assert_eq!((producer.pages(), consumer.pages(), producer.page()), (0b010, 0b010, 2));
    // It begins at slot 0, whatever page it was on.
    for (page, slots, byte) in [(0, 62, 4), (0, 24, 5)] {
        if byte == 4 {
            assert_eq!(producer.push(&packet(slots, byte)), Err(ReserveError::NoPage(page)));
            producer.give_page(page);
        }
        producer.push(&packet(slots, byte)).unwrap();
        if byte == 4 {
            assert_eq!(consumer.peek(), Err(PeekError::NoPage(page)));
            consumer.give_page(page);
        }
        assert_eq!(pop(&mut consumer), Ok(Some(packet(slots, byte))));
    }
}

/// A packet that was looked at stays whole when the pages go, although that should not be.
#[test]
fn taking_pages_drops_what_was_looked_at() {
    let ring = ring_memory(SLOTS);
    let slots = ring.sub(HEADER_BYTES, SLOTS as usize * 64).unwrap();
    let (mut producer, _) = ends(&ring);
    let mut consumer = PacketConsumer::attach_sparse(&ring, &slots, SLOTS).unwrap();
    producer.push(&packet(2, 1)).unwrap();
    consumer.give_page(0);
    let record = consumer.peek().unwrap().unwrap();
    assert!(!consumer.prepare_wait());
    consumer.take_pages(1);
    assert!(consumer.payload(&record).is_none());
    assert_eq!(consumer.peek(), Err(PeekError::NoPage(0)));
    assert_eq!(consumer.advance(), Ok(()));
    assert_eq!(consumer.available(), Ok(2));
}

#[test]
fn a_reset_is_reported_to_ends_whose_pages_come_one_by_one() {
    let ring = ring_memory(SLOTS);
    let slots = ring.sub(HEADER_BYTES, SLOTS as usize * 64).unwrap();
    let mut producer = PacketProducer::attach_sparse(&ring, &slots, SLOTS).unwrap();
    producer.give_page(0);
    for n in 0..30 {
        producer.push(&packet(2, n)).unwrap();
    }
    reset(&ring).unwrap();
    assert_eq!(producer.in_flight(), Err(ring::RingError::EpochChanged));
    producer.push(&packet(64, 0)).unwrap();
    assert_eq!(producer.push(&packet(1, 0)), Err(ReserveError::NoPage(1)), "the ring is not empty");
    assert!(PacketProducer::attach_sparse(&ring_memory(2048), &ring_memory(2048), 2048).is_err());
}
