//! The VM's virtual disk: blocks of 4 KiB that are read, written, flushed and discarded, from any number of tasks.
//!
//! ```no_run
//! # async fn example() -> Result<(), ilwaco::disk::DiskError> {
//! use ilwaco::disk::{BLOCK_BYTES, Disk};
//!
//! let Some(disk) = Disk::attached() else { return Ok(()) };
//! let mut block = [0; BLOCK_BYTES];
//! disk.read(0, &mut block).await?;
//! if !disk.is_read_only() {
//!     disk.write(disk.blocks() - 1, &block).await?;
//!     disk.flush().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Up to eight requests are on their way at the same time; further ones wait. Those to the same block are carried out in the order in which they
//! were first polled; nothing else is ordered, but that what was *completed* before a flush is durable when the flush has completed. Whoever
//! drops the future of a write or a discard does not know whether it is done.

use crate::cell::global;
use crate::sync::Notify;
use crate::{identity, platform, registers};
use abi::guest::{device, pending};
use abi::guest_disk::{
    COMPLETION_SLOTS, COMPLETIONS, DiskCompletion, DiskOrder, DiskPage, REQUEST_SLOTS, REQUESTS, SLOTS, flags,
    ring_bytes, state, status,
};
use abi::message::Message;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::mem::offset_of;
use core::task::{Poll, Waker};
use ring::{Consumer, Producer, PushError, RingError, SharedMemory};

pub use abi::guest_disk::BLOCK_BYTES;

/// Requests on their way: each has a slot of its own, whether it needs it or not.
const FLIGHTS: usize = SLOTS as usize;

const _: () = assert!(FLIGHTS <= u8::BITS as usize);

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// What is on the disk is not what was written there.
    Corrupt,
    /// A disk of the machine could not do it. A block that was to be written holds what it held, or what was written.
    Failed,
    /// There is no such block.
    OutOfRange,
    /// The VM has the disk for reading only.
    ReadOnly,
    /// The machine says what does not belong here: it was built from other sources.
    Answer,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskError::Corrupt => "what is on the disk is not what was written there",
            DiskError::Failed => "a disk of the machine could not do it",
            DiskError::OutOfRange => "there is no such block",
            DiskError::ReadOnly => "the disk is attached for reading only",
            DiskError::Answer => "the machine's answer is no answer; build both from one source",
        })
    }
}

impl core::error::Error for DiskError {}

/// Where a request is.
enum Stage {
    /// There is none.
    Free,
    /// It was given to the machine.
    Away { order: DiskOrder, waker: Option<Waker> },
    /// It has ended, and whoever has asked has not heard of it yet.
    Ended { status: u16 },
    /// It was given to the machine, and nobody waits for it any more.
    Left { order: DiskOrder },
}

struct Flight {
    id: u32,
    stage: Stage,
}

impl Flight {
    /// What the machine was asked for and has not answered.
    fn order(&self) -> Option<DiskOrder> {
        match self.stage {
            Stage::Away { order, .. } | Stage::Left { order } => Some(order),
            Stage::Free | Stage::Ended { .. } => None,
        }
    }
}

/// The guest's ends of the rings, and the slots.
struct Rings {
    requests: Producer<SharedMemory>,
    completions: Consumer<SharedMemory>,
    slots: SharedMemory,
    flights: [Flight; FLIGHTS],
    last: u32,
    /// Slots that may hold something, by bit.
    filled: u8,
    /// Something was put into the ring that the machine has not been shown.
    staged: bool,
    /// Says that a flight has ended that others wait for.
    places: Rc<Notify>,
}

global! {
    // Beside the program's other data it would be in every VM's memory, also without a disk.
    static RINGS: RefCell<Option<Box<Rings>>> = RefCell::new(None);
}

impl Rings {
    fn new(memory: &SharedMemory) -> Option<Rings> {
        let requests = memory.sub(REQUESTS, ring_bytes(REQUEST_SLOTS))?;
        let completions = memory.sub(COMPLETIONS, ring_bytes(COMPLETION_SLOTS))?;
        Some(Rings {
            requests: Producer::attach_contiguous(&requests, REQUEST_SLOTS).ok()?,
            completions: Consumer::attach_contiguous(&completions, COMPLETION_SLOTS).ok()?,
            slots: memory.sub(BLOCK_BYTES, FLIGHTS * BLOCK_BYTES)?,
            flights: [const { Flight { id: 0, stage: Stage::Free } }; FLIGHTS],
            last: 0,
            filled: 0,
            staged: false,
            places: Rc::default(),
        })
    }

    /// Puts a request into the ring. There is always room: there are more slots than flights.
    fn stage(&mut self, id: u32, order: DiskOrder) {
        let message = Message { id, ..order.into() };
        match self.requests.stage(&message) {
            Ok(()) => self.staged = true,
            // All that are away, this one included, are given again.
            Err(PushError::EpochChanged) => self.stage_again(),
            // The machine takes nothing, or writes nonsense; when it begins anew, so do these.
            Err(PushError::Full | PushError::Corrupt) => {}
        }
    }

    /// The rings were reset, with whatever was in them: whoever serves the disk begins anew. What it has not answered it is asked again, in the same
    /// order.
    fn stage_again(&mut self) {
        // Both rings were, and whichever end has not noticed yet would have all given twice.
        let _ = (self.requests.check_epoch(), self.completions.check_epoch());
        let mut away: Vec<(u32, DiskOrder)> =
            self.flights.iter().filter_map(|flight| Some((flight.id, flight.order()?))).collect();
        let last = self.last;
        away.sort_unstable_by_key(|(id, _)| core::cmp::Reverse(last.wrapping_sub(*id)));
        for (id, order) in away {
            let message = Message { id, ..order.into() };
            self.staged |= self.requests.stage(&message).is_ok();
        }
    }

    /// Begins a request, if there is a place for it: the place. `data`: what it writes.
    fn begin(&mut self, order: impl Fn(u16) -> DiskOrder, data: Option<&[u8; BLOCK_BYTES]>) -> Option<(usize, u32)> {
        let place = self.flights.iter().position(|flight| matches!(flight.stage, Stage::Free))?;
        if let Some(data) = data {
            self.slots.write(place * BLOCK_BYTES, data)?;
        }
        self.filled |= 1 << place;
        self.last = self.last.wrapping_add(1);
        let (id, order) = (self.last, order(u16::try_from(place).ok()?));
        self.flights[place] = Flight { id, stage: Stage::Away { order, waker: None } };
        self.stage(id, order);
        Some((place, id))
    }

    /// Clears the slots of which nobody needs what they hold: they take no room where the VM's memory lies while it is out.
    fn clear_slots(&mut self) {
        for (place, flight) in self.flights.iter().enumerate() {
            if self.filled >> place & 1 != 0 && matches!(flight.stage, Stage::Free) {
                // It lies in the slots.
                let _ = self.slots.clear(place * BLOCK_BYTES, BLOCK_BYTES);
                self.filled &= !(1 << place);
            }
        }
    }

    /// Takes completions in.
    fn receive(&mut self) {
        // No more than there are slots, whatever stands in the ring.
        for _ in 0..COMPLETION_SLOTS {
            let message = match self.completions.pop() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(RingError::EpochChanged) => {
                    self.stage_again();
                    continue;
                }
                Err(RingError::Corrupt) => {
                    let _ = self.completions.skip_all();
                    break;
                }
            };
            let status = match DiskCompletion::try_from(&message) {
                Ok(DiskCompletion::Ended { status }) => status,
                Err(_) => status::BAD_REQUEST,
            };
            let of = |flight: &&mut Flight| flight.id == message.id && flight.order().is_some();
            let Some(flight) = self.flights.iter_mut().find(of) else { continue };
            match core::mem::replace(&mut flight.stage, Stage::Ended { status }) {
                Stage::Away { waker: Some(waker), .. } => waker.wake(),
                Stage::Left { .. } => {
                    flight.stage = Stage::Free;
                    self.places.notify_one();
                }
                Stage::Away { waker: None, .. } | Stage::Free | Stage::Ended { .. } => {}
            }
        }
    }
}

/// The virtual disk that this VM was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    blocks: u64,
    read_only: bool,
}

impl Disk {
    /// The VM's disk; `None` when it was created without one.
    pub fn attached() -> Option<Disk> {
        let memory = platform::disk()?;
        RINGS.with(|rings| {
            let mut rings = rings.borrow_mut();
            if rings.is_none() {
                *rings = Rings::new(&memory).map(Box::new);
            }
            rings.as_ref().map(drop)
        })?;
        Some(Disk {
            blocks: memory.read64(offset_of!(DiskPage, blocks))?,
            read_only: memory.read32(offset_of!(DiskPage, flags))? & flags::READ_ONLY != 0,
        })
    }

    /// How many blocks of [`BLOCK_BYTES`] bytes it has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether it may not be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Reads a block. One that was never written, or that was discarded, is zeros.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn read(&self, block: u64, into: &mut [u8; BLOCK_BYTES]) -> Result<(), DiskError> {
        self.perform(|slot| DiskOrder::Read { block, slot }, None, Some(into)).await
    }

    /// Writes a block. It is durable when a [`Disk::flush`] that begins afterwards has completed.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn write(&self, block: u64, from: &[u8; BLOCK_BYTES]) -> Result<(), DiskError> {
        self.perform(|slot| DiskOrder::Write { block, slot }, Some(from), None).await
    }

    /// Makes durable what was written and discarded before.
    ///
    /// # Errors
    /// [`DiskError`]: nobody knows what is durable.
    pub async fn flush(&self) -> Result<(), DiskError> {
        self.perform(|_| DiskOrder::Flush, None, None).await
    }

    /// Says that what is in a block is not needed any more: it reads as zeros.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn discard(&self, block: u64) -> Result<(), DiskError> {
        self.perform(|_| DiskOrder::Discard { block }, None, None).await
    }

    async fn perform(
        &self,
        order: impl Fn(u16) -> DiskOrder,
        from: Option<&[u8; BLOCK_BYTES]>,
        into: Option<&mut [u8; BLOCK_BYTES]>,
    ) -> Result<(), DiskError> {
        let (place, id) = loop {
            // There are rings, or there would be no disk.
            let begun = with_rings(|rings| rings.begin(&order, from).ok_or_else(|| rings.places.clone()));
            match begun.ok_or(DiskError::Answer)? {
                Ok(begun) => break begun,
                Err(places) => places.notified().await,
            }
        };
        let mut flight = InFlight { place, id };
        let status = poll_fn(|cx| flight.poll(cx.waker())).await;
        let result = match status {
            status::DONE => {
                if let Some(into) = into {
                    let read = with_rings(|rings| rings.slots.read(place * BLOCK_BYTES, into));
                    read.flatten().ok_or(DiskError::Answer)?;
                }
                Ok(())
            }
            status::ZEROS => {
                if let Some(into) = into {
                    into.fill(0);
                }
                Ok(())
            }
            status::CORRUPT => Err(DiskError::Corrupt),
            status::FAILED => Err(DiskError::Failed),
            status::OUT_OF_RANGE => Err(DiskError::OutOfRange),
            status::READ_ONLY => Err(DiskError::ReadOnly),
            _ => Err(DiskError::Answer),
        };
        drop(flight);
        result
    }
}

/// A request that somebody waits for. Its place is free for another one when this is dropped and the request has ended.
struct InFlight {
    place: usize,
    id: u32,
}

impl InFlight {
    fn poll(&mut self, waker: &Waker) -> Poll<u16> {
        let looked = with_rings(|rings| {
            let flight = rings.flights.get_mut(self.place).filter(|flight| flight.id == self.id)?;
            match &mut flight.stage {
                Stage::Ended { status } => Some(Poll::Ready(*status)),
                Stage::Away { waker: waits, .. } => {
                    *waits = Some(waker.clone());
                    Some(Poll::Pending)
                }
                Stage::Free | Stage::Left { .. } => None,
            }
        });
        // It is there as long as this is.
        looked.flatten().unwrap_or(Poll::Ready(status::BAD_REQUEST))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        with_rings(|rings| {
            let Some(flight) = rings.flights.get_mut(self.place).filter(|flight| flight.id == self.id) else { return };
            match flight.order() {
                Some(order) => flight.stage = Stage::Left { order },
                None => {
                    flight.stage = Stage::Free;
                    rings.places.notify_one();
                }
            }
        });
    }
}

/// What `with` makes of the rings; `None` where there is no disk, or nobody has asked for it.
fn with_rings<R>(with: impl FnOnce(&mut Rings) -> R) -> Option<R> {
    RINGS.with(|rings| rings.borrow_mut().as_deref_mut().map(with))
}

/// Takes in what the machine has completed.
pub(crate) fn receive() {
    with_rings(Rings::receive);
}

/// Gives back what is not in use. Called when nothing has happened for a while.
pub(crate) fn shrink() {
    with_rings(Rings::clear_slots);
}

/// Shows the machine what it is asked for.
pub(crate) fn send() {
    let rings = with_rings(|rings| {
        if !core::mem::take(&mut rings.staged) {
            return false;
        }
        rings.requests.publish();
        rings.requests.consumer_waits()
    });
    if rings == Some(true) {
        platform::kick(device::DISK);
    }
}

/// Before the VM idles: false when something has been completed meanwhile.
pub(crate) fn prepare_idle() -> bool {
    with_rings(|rings| rings.completions.prepare_wait()).unwrap_or(true)
}

/// After the VM has idled.
pub(crate) fn awake() {
    with_rings(|rings| rings.completions.cancel_wait());
}

/// Waits until the disk is there, if the VM has one. The machine takes a moment for it, or ends the VM.
pub(crate) fn await_ready() {
    let Some(memory) = platform::disk() else { return };
    registers::enable(pending::DISK);
    while memory.load32(offset_of!(DiskPage, state)) == Some(state::COMING) {
        if platform::idle(u64::MAX) & pending::IDENTITY != 0 {
            identity::look();
        }
        registers::take(pending::DISK);
    }
}

/// As if the program started anew.
#[cfg(not(target_os = "none"))]
pub(crate) fn forget_all() {
    RINGS.with(|rings| rings.take());
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
