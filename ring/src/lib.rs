//! The fixed ring: one producer, one consumer, 64-byte slots, in memory that the two share and do not trust.
//!
//! [`Producer`] and [`Consumer`] are the ends of a ring of messages, [`PacketProducer`] and [`PacketConsumer`] those of a ring
//! of packets. The layout is [`abi::ring`]; both kinds follow the same rules.
//!
//! # Indices
//! Indices count slots and run freely; the slot is the index modulo the number of slots. An end keeps its own index, the
//! number of slots and the epoch in private. What the peer wrote is an allegation: with more slots in use than there are,
//! the operation is [`RingError::Corrupt`], and the ring counts as full (for the producer) or empty (for the consumer) until
//! the peer writes what can be. No operation loops over what the peer wrote, none panics, none leaves the memory.
//!
//! # Wraps
//! A ring of packets that is mostly empty stays on one page: when a record does not fit into what is left of a page and the
//! ring is empty, the producer goes on at slot 0 instead ([`abi::ring::RingHeader::wrap`]), and no slot counts as used for
//! that. It stores the index `w` that it goes on from, the next multiple of the slots, in the wrap word, and then, with its
//! first record there, the tail. Both ends take what lies before `w` for nothing:
//! - The consumer, when it has taken all that it knows of and finds more, looks at the wrap word behind the tail. A `w` less than
//!   a round ahead of its index, and not beyond the tail, is where it goes on. The order is right: whoever sees the tail sees
//!   the word that was stored before it, and the producer stores no other one before the consumer has published an index from
//!   `w` on. A consumer that has not seen the new tail has nothing to take and does not look at the word.
//! - The producer takes an index of the consumer less than a round before `w` for `w`. One from `w` on says that the consumer
//!   has gone along; the producer then clears the word, at the latest when it has filled the ring once. So none is there when
//!   the indices come round to it.
//!
//! A word of another epoch counts for nothing. A producer that says so when the ring is not empty loses its own packets; a
//! consumer that lies makes the ring full for itself.
//!
//! # Memory on demand
//! An end that serves somebody else may have been given some pages of the slots only ([`PacketProducer::attach_sparse`],
//! [`PacketConsumer::attach_sparse`]). It touches no other: an operation that would names the page instead
//! ([`ReserveError::NoPage`], [`PeekError::NoPage`]) and does nothing.
//!
//! # Epochs
//! An index word is `(epoch, index)`; a word of another epoch than the ring's means index 0. To reset a ring is therefore one
//! store: its owner moves the epoch word ([`reset`]) when an end has stopped for good and before its successor starts, and
//! rings both doorbells. Either end notices with its next operation, sets its index to 0 and reports
//! [`RingError::EpochChanged`] once; its owner then sends again what is still to be answered. An end that has nothing to do
//! when it is woken calls `check_epoch`.
//!
//! Why a store that was under way during the reset is harmless: let the ring go from epoch `e` to `e + 1`.
//! - The store of an index word carries `e`. Whenever it arrives, both ends in `e + 1` read it as index 0, which is the index
//!   that its writer has in `e + 1` until it publishes there. The writer itself stores in program order, so that the late
//!   store cannot replace a newer one; a writer that was stopped stores no more.
//! - The store of a slot is made by the producer only, and before its own first store in `e + 1`. The consumer does not look at
//!   slots of `e + 1` before the producer has published them there.
//! - The consumer that still reads a slot in `e` while the producer already fills it in `e + 1` might get half of each. It
//!   therefore loads the epoch again after the slot (as a sequence lock does) and drops what it read if the epoch moved.
//! - An end in `e` may read an index of `e + 1`, and takes it for 0. If that cannot be it looks at the epoch before it calls the
//!   peer a liar; if it can be, the next operation notices.
//!
//! All that holds for ends that write only their own words. An end that has written others was a liar; whoever takes it away
//! uses [`reset_to`], which leaves nothing of its lies behind.
//!
//! `attach` takes the epoch and the end's own index from the memory. On fresh (zeroed) memory and after a reset this gives
//! index 0; an end that was dropped and attached again without a reset goes on where it was. The epoch would have to be
//! moved 2^32 times during one operation to go unnoticed.
//!
//! # Doorbells
//! Whoever wants to sleep calls `prepare_wait`: it sets the end's waiting flag, and looks again behind a full fence. The other end
//! publishes, then looks at the flag behind a full fence (`consumer_waits`, `producer_waits`). One of the two always sees the
//! other's store, so no doorbell is lost, and none is rung for a peer that is awake. A flag is written by its owner only: after waking
//! up it calls `cancel_wait`. Attaching clears it.
//!
//! # Memory
//! The ends are generic over [`Memory`]: [`SharedMemory`] is the real thing, and the tests run the same source under loom.
#![no_std]
#![deny(unsafe_code)]

mod end;
mod error;
#[allow(unsafe_code)]
mod mem;
mod message;
#[cfg(feature = "packet")]
mod packet;
#[cfg(feature = "packet")]
mod packet_error;
#[cfg(feature = "packet")]
mod pages;
#[cfg(feature = "packet")]
mod text;

pub use end::reset_to;
#[cfg(feature = "beyond-core")]
pub use end::sleep::reset;
pub use error::{AttachError, PushError, RingError};
pub use mem::{ByteMemory, HeaderWords, Memory, SharedHeader, SharedMemory, SharedSlots, SlotArray, SlotWords};
pub use message::{Consumer, Producer};
#[cfg(feature = "packet")]
pub use packet::{PacketConsumer, PacketProducer, Record, Reservation};
#[cfg(feature = "packet")]
pub use packet_error::{PeekError, ReserveError};
