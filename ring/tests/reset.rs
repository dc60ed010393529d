//! Resets: what the owner of a ring writes, and that nothing of a liar is left.

mod common;

use abi::message::Message;
use abi::ring::{EPOCH, HEAD, HEADER_BYTES, IndexWord, TAIL};
use common::{memory, ring_memory, start_at};
use ring::{AttachError, Consumer, Producer, RingError, SharedMemory, reset, reset_to};

fn ends(ring: &SharedMemory, slots: u32) -> (Producer<SharedMemory>, Consumer<SharedMemory>) {
    (Producer::attach_contiguous(ring, slots).unwrap(), Consumer::attach_contiguous(ring, slots).unwrap())
}

fn message(n: u64) -> Message {
    Message { kind: 7, id: 9, words: [n, !n, 2, 3, 4, 5, n << 32] }
}

#[test]
fn a_reset_moves_only_the_epoch() {
    let ring = ring_memory(1);
    start_at(&ring, 41, 9);
    assert_eq!(reset(&ring), Ok(42));
    assert_eq!(ring.read32(EPOCH), Some(42));
    assert_eq!(ring.read64(TAIL), Some(41 << 32 | 9));
}

#[test]
fn a_reset_to_an_epoch_moves_on_from_the_present_one() {
    let ring = ring_memory(4);
    start_at(&ring, 6, 3);
    let (mut producer, mut consumer) = ends(&ring, 4);
    // Nobody would notice the epoch in which they are.
    assert_eq!(reset_to(&ring, 6), Ok(7));
    assert_eq!(
        (producer.check_epoch(), consumer.check_epoch()),
        (Err(RingError::EpochChanged), Err(RingError::EpochChanged))
    );
    assert_eq!(reset_to(&ring, 99), Ok(99));
    assert_eq!(ring.read32(EPOCH), Some(99));
    start_at(&ring, u32::MAX, 3);
    assert_eq!(reset_to(&ring, u32::MAX), Ok(0));
}

#[test]
fn a_reset_after_lies_leaves_nothing_of_them() {
    const OLD: u32 = 6;
    let word = |epoch: u32, index| IndexWord { epoch, index }.pack();
    type Lie<'a> = (&'a str, &'a dyn Fn(&SharedMemory));
    let lies: [Lie<'_>; 4] = [
        ("all ones", &|ring| {
            for offset in (0..HEADER_BYTES).step_by(8) {
                ring.write64(offset, u64::MAX).unwrap();
            }
        }),
        ("indices for the epoch to come", &|ring| {
            for offset in [TAIL, HEAD] {
                ring.write64(offset, word(OLD + 1, 0x7777)).unwrap();
            }
        }),
        ("the new epoch foreseen after all", &|ring| {
            ring.write32(EPOCH, 99).unwrap();
            for offset in [TAIL, HEAD] {
                ring.write64(offset, word(99, 0x7777)).unwrap();
            }
        }),
        ("the epoch turned back", &|ring| {
            ring.write32(EPOCH, OLD - 1).unwrap();
            for offset in [TAIL, HEAD] {
                ring.write64(offset, word(OLD, 0x7777)).unwrap();
            }
        }),
    ];
    for (lie, tell) in lies {
        // The producer lies and is replaced, then the consumer.
        for liar_produces in [true, false] {
            let ring = ring_memory(4);
            start_at(&ring, OLD, 3);
            let (mut producer, mut consumer) = ends(&ring, 4);
            producer.push(&message(0)).unwrap();
            tell(&ring);
            let epoch = reset_to(&ring, 99).unwrap();
            let news = if liar_produces {
                producer = Producer::attach_contiguous(&ring, 4).unwrap();
                consumer.check_epoch()
            } else {
                consumer = Consumer::attach_contiguous(&ring, 4).unwrap();
                producer.check_epoch()
            };
            assert_eq!(news, Err(RingError::EpochChanged), "{lie}");
            assert_eq!(consumer.pop(), Ok(None), "{lie}");
            for n in 0..9 {
                producer.push(&message(n)).unwrap();
                assert_eq!(consumer.pop(), Ok(Some(message(n))), "{lie}");
            }
            assert_eq!(ring.read64(HEAD), Some(word(epoch, 9)), "{lie}");
        }
    }
    assert_eq!(reset_to(&memory(HEADER_BYTES - 8), 1), Err(AttachError::Memory));
}
