//! Every state of small rings, and every history up to a length: not some that were drawn. Miri, which takes a thousand times as long and looks for
//! what one step does wrong, sees a small part of them.

mod common;

use abi::message::Message;
use abi::ring::{HEAD, IndexWord, TAIL};
use common::{ring_memory, start_at};
use ring::{Consumer, Producer, PushError, RingError};
use std::collections::VecDeque;

const EPOCH: u32 = 5;
const CAPACITIES: &[u32] = if cfg!(miri) { &[4] } else { &[2, 4, 8, 16] };
/// Of the states of a ring every so many-th is tried.
const EACH: usize = if cfg!(miri) { 13 } else { 1 };

/// Indices at which something could go wrong: around 0, around the middle, and where they come round.
fn starts() -> impl Iterator<Item = u32> {
    [0, 1 << 31, u32::MAX]
        .into_iter()
        .flat_map(|middle: u32| (0..40).map(move |by| middle.wrapping_sub(20).wrapping_add(by)))
        .step_by(EACH)
}

/// How far from the truth a peer may be: near it, and by each power of two and its neighbours.
fn distances() -> impl Iterator<Item = u32> {
    let near = (0..80_u32).map(|by| by.wrapping_sub(40));
    near.chain((0..32).flat_map(|bit| [(1_u32 << bit).wrapping_sub(1), 1 << bit, (1_u32 << bit).wrapping_add(1)]))
        .step_by(EACH)
}

fn claim(epoch: u32, index: u32) -> u64 {
    IndexWord { epoch, index }.pack()
}

/// A producer with any index counts what is in use exactly when what the consumer says can be, and forgets a lie.
#[test]
fn a_producer_believes_what_can_be_and_nothing_else() {
    for &capacity in CAPACITIES {
        let memory = ring_memory(capacity);
        for start in starts() {
            for by in distances() {
                start_at(&memory, EPOCH, start);
                let mut producer = Producer::attach_contiguous(&memory, capacity).expect("a ring");
                let head = start.wrapping_sub(by);
                memory.store64(HEAD, claim(EPOCH, head)).expect("a header");
                let (used, room) =
                    if by <= capacity { (Ok(by), by < capacity) } else { (Err(RingError::Corrupt), false) };
                assert_eq!(producer.in_flight(), used, "{capacity} slots, from {start:#x}, by {by:#x}");
                let pushed = producer.push(&Message::new(1, [7]));
                let expected = match used {
                    Ok(_) if room => Ok(()),
                    Ok(_) => Err(PushError::Full),
                    Err(error) => Err(error.into()),
                };
                assert_eq!(pushed, expected, "{capacity} slots, from {start:#x}, by {by:#x}");
                // The truth is believed again.
                memory.store64(HEAD, claim(EPOCH, start.wrapping_add(pushed.is_ok().into()))).expect("a header");
                assert_eq!(producer.in_flight(), Ok(0));
            }
        }
    }
}

/// A consumer with any index takes as many as there can be, and nothing from a liar.
#[test]
fn a_consumer_believes_what_can_be_and_nothing_else() {
    for &capacity in CAPACITIES {
        let memory = ring_memory(capacity);
        for start in starts() {
            for by in distances() {
                start_at(&memory, EPOCH, start);
                let mut consumer = Consumer::attach_contiguous(&memory, capacity).expect("a ring");
                memory.store64(TAIL, claim(EPOCH, start.wrapping_add(by))).expect("a header");
                let mut taken = 0;
                let end = loop {
                    match consumer.take_words() {
                        Ok(Some(_)) if taken < capacity => taken += 1,
                        other => break other.map(|words| words.is_some()),
                    }
                };
                if by <= capacity {
                    assert_eq!((taken, end), (by, Ok(false)), "{capacity} slots, from {start:#x}");
                } else {
                    assert_eq!(
                        (taken, end),
                        (0, Err(RingError::Corrupt)),
                        "{capacity} slots, from {start:#x}, by {by:#x}"
                    );
                    memory.store64(TAIL, claim(EPOCH, start)).expect("a header");
                    assert_eq!(consumer.take_words().map(|words| words.is_some()), Ok(false));
                }
            }
        }
    }
}

/// What two honest ends do: each history of pushing, staging, publishing, taking and giving back, over the place where indices come round.
#[test]
fn no_history_loses_doubles_or_reorders_a_message() {
    const LENGTH: u32 = if cfg!(miri) { 4 } else { 9 };
    const CALLS: u32 = 4;
    const SLOTS: u32 = 2;
    let memory = ring_memory(SLOTS);
    for mut history in 0..CALLS.pow(LENGTH) {
        start_at(&memory, EPOCH, u32::MAX - 1);
        let mut producer = Producer::attach_contiguous(&memory, SLOTS).expect("a ring");
        let mut consumer = Consumer::attach_contiguous(&memory, SLOTS).expect("a ring");
        let (mut staged, mut shown, mut taken) = (VecDeque::new(), VecDeque::new(), 0);
        let mut next = 1;
        for _ in 0..LENGTH {
            match history % CALLS {
                0 => {
                    let full = staged.len() + shown.len() + taken == SLOTS as usize;
                    assert_eq!(producer.stage(&Message::new(next, [])).is_ok(), !full);
                    if !full {
                        staged.push_back(next);
                        next += 1;
                    }
                }
                1 => {
                    producer.publish();
                    shown.append(&mut staged);
                }
                2 => {
                    let message = consumer.take_words().expect("an honest peer");
                    let kind = message.map(|words| u32::try_from(words[0] & 0xffff_ffff).expect("32 bits"));
                    assert_eq!(kind, shown.pop_front());
                    taken += usize::from(kind.is_some());
                }
                _ => {
                    consumer.release();
                    taken = 0;
                }
            }
            history /= CALLS;
        }
    }
}
