//! The other end of the virtual disk of the simulated machine: blocks in memory.

use super::pages::{raise, registers};
use abi::guest::{RegisterPage, device, pending};
use abi::guest_disk::{
    BLOCK_BYTES, COMPLETION_SLOTS, COMPLETIONS, DISK_BASE, DiskCompletion, DiskOrder, DiskPage, REQUEST_SLOTS,
    REQUESTS, SLOTS, flags, ring_bytes, state, status,
};
use abi::message::Message;
use core::mem::offset_of;
use ring::{Consumer, Producer, PushError, RingError, SharedMemory};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::thread_local;
use std::vec;
use std::vec::Vec;

struct Striper {
    memory: SharedMemory,
    requests: Consumer<SharedMemory>,
    completions: Producer<SharedMemory>,
    blocks: Vec<Option<[u8; BLOCK_BYTES]>>,
    read_only: bool,
    /// Blocks whose requests end with this status.
    spoilt: BTreeMap<u64, u16>,
    /// Requests that were taken, while they are held back.
    held: Option<Vec<Message>>,
    /// What was asked for, in order.
    orders: Vec<DiskOrder>,
}

thread_local! {
    static STRIPER: RefCell<Option<Striper>> = const { RefCell::new(None) };
}

/// From now on the guest has a virtual disk that holds these bytes, filled up to a whole block. Blocks of zeros were never written.
/// To be called before the guest's program begins.
pub(crate) fn attach(bytes: &[u8], read_only: bool) {
    let memory = SharedMemory::from_static(vec![0_u64; (1 + usize::from(SLOTS)) * BLOCK_BYTES / 8].leak());
    let requests = memory.sub(REQUESTS, ring_bytes(REQUEST_SLOTS)).expect("in the page");
    let completions = memory.sub(COMPLETIONS, ring_bytes(COMPLETION_SLOTS)).expect("in the page");
    let block = |bytes: &[u8]| {
        let mut block = [0; BLOCK_BYTES];
        block[..bytes.len()].copy_from_slice(bytes);
        (block != [0; BLOCK_BYTES]).then_some(block)
    };
    let blocks: Vec<_> = bytes.chunks(BLOCK_BYTES).map(block).collect();
    let count = u64::try_from(blocks.len()).expect("small");
    memory.write64(offset_of!(DiskPage, blocks), count).expect("in the page");
    memory.write32(offset_of!(DiskPage, flags), if read_only { flags::READ_ONLY } else { 0 }).expect("in the page");
    memory.store32(offset_of!(DiskPage, state), state::READY).expect("in the page");
    registers().write64(offset_of!(RegisterPage, disk_page), DISK_BASE).expect("in the page");
    let mut requests = Consumer::attach_contiguous(&requests, REQUEST_SLOTS).expect("a ring");
    assert!(requests.prepare_wait(), "nothing was asked yet");
    STRIPER.set(Some(Striper {
        memory,
        requests,
        completions: Producer::attach_contiguous(&completions, COMPLETION_SLOTS).expect("a ring"),
        blocks,
        read_only,
        spoilt: BTreeMap::new(),
        held: None,
        orders: Vec::new(),
    }));
}

/// From now on requests to this block of the virtual disk end with this status ([`abi::guest_disk::status`]).
pub(crate) fn spoil(block: u64, status: u16) {
    with(|striper| striper.spoilt.insert(block, status));
}

/// What is on the virtual disk.
pub(crate) fn bytes() -> Vec<u8> {
    with(|striper| striper.blocks.iter().flat_map(|block| block.unwrap_or([0; BLOCK_BYTES])).collect())
}

/// From now on requests to the virtual disk are taken and not answered.
pub(crate) fn hold() {
    with(|striper| striper.held = Some(striper.held.take().unwrap_or_default()));
}

/// Answers the requests that were held back, the last one first.
pub(crate) fn release() {
    with(|striper| {
        for message in striper.held.take().unwrap_or_default().iter().rev() {
            striper.carry_out(message);
        }
    });
    raise(pending::DISK);
}

/// Whoever serves the virtual disk is started anew, and has forgotten what it was asked for.
pub(crate) fn restart() {
    with(|striper| {
        for ring in [REQUESTS, COMPLETIONS] {
            let header = striper.memory.sub(ring, ring_bytes(0)).expect("in the page");
            ring::reset(&header).expect("a ring");
        }
        striper.held = None;
        assert_eq!(striper.requests.check_epoch(), Err(RingError::EpochChanged));
        // Whether it asks for it or not, the guest is rung for.
        assert!(striper.requests.prepare_wait(), "nothing was asked yet");
    });
    raise(pending::DISK);
}

/// What the virtual disk was asked for so far, in order.
pub(crate) fn orders() -> Vec<DiskOrder> {
    with(|striper| striper.orders.clone())
}

fn with<R>(then: impl FnOnce(&mut Striper) -> R) -> R {
    STRIPER.with_borrow_mut(|striper| then(striper.as_mut().expect("a test that needs a disk calls Sim::attach_disk")))
}

impl Striper {
    fn carry_out(&mut self, message: &Message) {
        let order = DiskOrder::try_from(message).expect("an honest guest");
        self.orders.push(order);
        let message = Message { id: message.id, ..DiskCompletion::Ended { status: self.do_it(order) }.into() };
        let pushed = match self.completions.push(&message) {
            Err(PushError::EpochChanged) => self.completions.push(&message),
            pushed => pushed,
        };
        pushed.expect("an honest guest");
    }

    fn do_it(&mut self, order: DiskOrder) -> u16 {
        let (DiskOrder::Read { block, .. } | DiskOrder::Write { block, .. } | DiskOrder::Discard { block }) = order
        else {
            return status::DONE;
        };
        let Some(place) = usize::try_from(block).ok().and_then(|block| self.blocks.get_mut(block)) else {
            return status::OUT_OF_RANGE;
        };
        if let Some(status) = self.spoilt.get(&block) {
            return *status;
        }
        let slot_at = |slot: u16| (1 + usize::from(slot)) * BLOCK_BYTES;
        match order {
            DiskOrder::Read { slot, .. } => {
                let Some(block) = place else { return status::ZEROS };
                self.memory.write(slot_at(slot), block).expect("an honest guest");
            }
            _ if self.read_only => return status::READ_ONLY,
            DiskOrder::Write { slot, .. } => {
                let mut block = [0; BLOCK_BYTES];
                self.memory.read(slot_at(slot), &mut block).expect("an honest guest");
                *place = Some(block);
            }
            DiskOrder::Discard { .. } => *place = None,
            DiskOrder::Flush => {}
        }
        status::DONE
    }
}

/// As if there were no virtual disk.
pub(super) fn forget() {
    STRIPER.set(None);
}

/// Disk page and block slots, where the guest has a virtual disk.
pub(crate) fn memory() -> Option<SharedMemory> {
    let there = registers().read64(offset_of!(RegisterPage, disk_page)) != Some(0);
    STRIPER.with_borrow(|striper| striper.as_ref().filter(|_| there).map(|striper| striper.memory))
}

/// The guest tells the server of a device to look at its rings.
pub(super) fn kicked(of: u64) {
    if of != device::DISK {
        return;
    }
    with(|striper| {
        striper.requests.cancel_wait();
        loop {
            match striper.requests.pop() {
                Ok(Some(message)) => match &mut striper.held {
                    Some(held) => held.push(message),
                    None => striper.carry_out(&message),
                },
                Err(RingError::EpochChanged) => {}
                Err(RingError::Corrupt) => panic!("an honest guest"),
                Ok(None) if striper.requests.prepare_wait() => break,
                Ok(None) => {}
            }
        }
    });
    raise(pending::DISK);
}
