//! A ring whose peer writes anything: each end must stay inside of its ring, and work again after a reset.

use abi::message::Message;
use abi::ring::{CONSUMER_WAITS, EPOCH, HEAD, HEADER_BYTES, IndexWord, PRODUCER_WAITS, SLOT_BYTES, TAIL, WRAP};
use ring::{
    Consumer, PacketConsumer, PacketProducer, PeekError, Producer, PushError, ReserveError, SharedMemory, reset_to,
};

const SLOTS: u32 = 8;
const SLOTS_BYTES: usize = SLOTS as usize * SLOT_BYTES;
const RING_BYTES: usize = HEADER_BYTES + SLOTS_BYTES;
/// Bytes on either side that nobody may touch.
const MARGIN: usize = 4096;
/// What no peer foresees: the core draws it.
const NEW_EPOCH: u32 = 0x9d3c_51e7;
const CANARY: u64 = 0xdead_beef_cafe_f00d;

thread_local! {
    /// Memory that is shared lives for ever, so one piece does for all runs.
    static MEMORY: SharedMemory =
        SharedMemory::from_static(Box::leak(vec![0; (RING_BYTES + 2 * MARGIN) / 8].into_boxed_slice()));
}

/// Bytes that are used up one after the other; zeros behind the last.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// The first byte says what ring it is; then each byte is a call of one of its two ends, or a store of the peer's.
pub fn run(data: &[u8]) -> bool {
    MEMORY.with(|whole| {
        let ring = whole.sub(MARGIN, RING_BYTES).expect("within");
        for offset in (0..whole.len()).step_by(8) {
            let inside = (MARGIN..MARGIN + RING_BYTES).contains(&offset);
            whole.write64(offset, if inside { 0 } else { CANARY }).expect("within");
        }
        let mut script = Script(data);
        let content = if script.byte() % 2 == 0 { messages(&ring, script) } else { packets(&ring, script) };
        for offset in (0..MARGIN).chain(MARGIN + RING_BYTES..whole.len()).step_by(8) {
            assert_eq!(whole.read64(offset), Some(CANARY), "written beside the ring, at {offset}");
        }
        content
    })
}

/// One store: to an index, the epoch, a flag or a slot, of something that is nearly right, or of anything.
fn scribble(ring: &SharedMemory, script: &mut Script) {
    let place = script.byte();
    let at = match place % 8 {
        0 => TAIL,
        1 => HEAD,
        2 => WRAP,
        3 => EPOCH,
        4 => PRODUCER_WAITS,
        5 => CONSUMER_WAITS,
        _ => HEADER_BYTES + usize::from(place / 8) % SLOTS as usize * SLOT_BYTES,
    };
    let near = IndexWord::unpack(ring.read64(if place & 64 == 0 { TAIL } else { HEAD }).expect("within"));
    let epoch = ring.read32(EPOCH).expect("within");
    let delta = script.byte();
    let value = match delta % 4 {
        0 => script.word(),
        1 => u64::from(delta / 4) | u64::from(script.byte()) << 16 | u64::from(script.byte() % 10) << 32,
        2 => IndexWord {
            epoch: epoch.wrapping_add(u32::from(delta == 2)),
            index: near.index.wrapping_sub(u32::from(delta / 4)),
        }
        .pack(),
        _ => IndexWord { epoch, index: near.index.wrapping_add(u32::from(delta / 4)) }.pack(),
    };
    if at == EPOCH {
        ring.write32(at, epoch.wrapping_add((delta & 1).into())).expect("within");
    } else {
        ring.write64(at, value).expect("within");
    }
}

fn messages(ring: &SharedMemory, mut script: Script) -> bool {
    let mut producer = Producer::attach_contiguous(ring, SLOTS).expect("room");
    let mut consumer = Consumer::attach_contiguous(ring, SLOTS).expect("room");
    let mut content = false;
    while !script.0.is_empty() {
        match script.byte() % 8 {
            0 | 1 => scribble(ring, &mut script),
            2 | 3 => drop(producer.push(&Message::new(1, [script.byte().into()]))),
            4 => {
                // Whatever the peer has said: a ringful from an earlier look, and one from the next.
                let mut count = 0;
                while let Ok(Some(_)) = consumer.pop() {
                    count += 1;
                    content = true;
                    assert!(count <= 2 * SLOTS, "messages without end");
                }
            }
            5 => drop(consumer.skip_all()),
            6 => {
                assert!(producer.in_flight().unwrap_or(0) <= SLOTS);
                assert!(consumer.available().unwrap_or(0) <= SLOTS);
            }
            _ => {
                if producer.prepare_wait() {
                    producer.cancel_wait();
                }
                if consumer.prepare_wait() {
                    consumer.cancel_wait();
                }
            }
        }
    }
    reset_to(ring, NEW_EPOCH).expect("room");
    assert_eq!(producer.push(&Message::default()), Err(PushError::EpochChanged));
    assert_eq!(consumer.check_epoch(), Err(ring::RingError::EpochChanged));
    for number in 0..u64::from(SLOTS) * 2 {
        producer.push(&Message::new(1, [number])).expect("an empty ring");
        assert_eq!(consumer.pop(), Ok(Some(Message::new(1, [number]))));
    }
    content
}

fn packets(ring: &SharedMemory, mut script: Script) -> bool {
    let mut producer = PacketProducer::attach_contiguous(ring, SLOTS).expect("room");
    let mut consumer = PacketConsumer::attach_contiguous(ring, SLOTS).expect("room");
    let mut content = false;
    let mut copy = [0; SLOTS_BYTES];
    while !script.0.is_empty() {
        match script.byte() % 8 {
            0 | 1 => scribble(ring, &mut script),
            2 | 3 => match producer.reserve(usize::from(script.byte()) * 2) {
                Ok(mut space) => {
                    space.write(0, &copy[..space.len()]).expect("what was reserved");
                    space.commit();
                }
                Err(ReserveError::NoPage(page)) => panic!("the ring has all its pages, but for {page}"),
                Err(_) => {}
            },
            4 => {
                let mut count = 0;
                loop {
                    match consumer.peek() {
                        Ok(Some(record)) => {
                            assert!(record.offset + record.len <= SLOTS_BYTES, "{record:?}");
                            consumer.read(&record, 0, &mut copy[..record.len]).expect("what was looked at");
                        }
                        Ok(None) | Err(PeekError::EpochChanged | PeekError::Corrupt) => break,
                        Err(PeekError::NoPage(page)) => panic!("the ring has all its pages, but for {page}"),
                    }
                    content = true;
                    count += 1;
                    assert!(count <= 2 * SLOTS, "packets without end");
                    if consumer.advance().is_err() {
                        break;
                    }
                }
            }
            5 => drop(consumer.skip_all()),
            6 => {
                assert!(producer.in_flight().unwrap_or(0) <= SLOTS);
                assert!(consumer.available().unwrap_or(0) <= SLOTS);
                let _ = producer.has_room(100);
                assert_ne!(producer.has_room(SLOTS_BYTES), Ok(true), "longer than any packet");
            }
            _ => {
                if producer.prepare_wait(64) {
                    producer.cancel_wait();
                }
                if consumer.prepare_wait() {
                    consumer.cancel_wait();
                }
            }
        }
    }
    reset_to(ring, NEW_EPOCH).expect("room");
    assert_eq!(producer.push(&[]), Err(ReserveError::EpochChanged));
    assert_eq!(consumer.peek(), Err(PeekError::EpochChanged));
    for number in 0..20 {
        producer.push(&[number; 100]).expect("an empty ring");
        let record = consumer.peek().expect("no reset").expect("a packet");
        let mut bytes = [0; 100];
        consumer.read(&record, 0, &mut bytes).expect("its length");
        assert_eq!(bytes, [number; 100]);
        consumer.advance().expect("no reset");
    }
    content
}

/// Honest use of both rings, and some stores between.
pub fn seeds() -> Vec<Vec<u8>> {
    let honest = [2, 10, 2, 20, 6, 4, 3, 30, 2, 40, 4, 7, 2, 1, 2, 2, 2, 3, 2, 4, 6, 4, 5].repeat(4);
    let hostile =
        [2, 10, 0, 0, 7, 4, 2, 20, 0, 1, 10, 4, 2, 5, 0, 6, 5, 2, 3, 4, 0, 2, 3, 4, 0, 3, 1, 2, 9, 4].repeat(4);
    [0, 1].into_iter().flat_map(|kind| [[&[kind][..], &honest].concat(), [&[kind][..], &hostile].concat()]).collect()
}
