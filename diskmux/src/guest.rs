//! One VM's virtual disk: its requests, as they come out of its ring, and their completions. What the VM wrote is an allegation: copied, checked, used.

use crate::latencies::Latencies;
use crate::rate::Rate;
use crate::store::JOBS;
use abi::charges::DiskUse;
use abi::guest_disk::{
    BLOCK_BYTES, COMPLETION_SLOTS, DiskCompletion, DiskOrder, DiskPage, SLOTS, flags, state, status,
};
use abi::limits::Name;
use abi::message::Message;
use abi::vm::VmId;
use component::VmDisk;
use core::mem::offset_of;
use disk_format::Entry;
use ring::{PushError, RingError, SharedMemory};

/// Requests of a VM that were taken and have not ended, at most: half of those that the store has room for, so that none can hold all of its places, and as
/// many as a VM has slots for blocks.
pub const AWAY: u32 = 8;

const _: () = assert!(AWAY as usize == JOBS / 2 && AWAY == SLOTS as u32);

/// A VM that has a disk.
pub struct Guest {
    pub vm: VmId,
    /// How fast it may ask.
    pub rate: Rate,
    /// The disk's place in the directory; `None` for a VM whose disk is gone: all of its requests fail.
    pub entry: Option<u16>,
    /// What stands there.
    pub what: Option<Entry>,
    /// Whether it may not write.
    pub read_only: bool,
    disk: VmDisk,
    /// Requests that were taken and have not been completed.
    away: u32,
    /// There are perhaps more, for which there was no room.
    more: bool,
    requests: u64,
    errors: u32,
    latencies: Latencies,
    /// What the core has not been told of.
    unsaid: DiskUse,
}

/// How a VM's requests do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests that were taken from its ring.
    pub requests: u64,
    /// Those that were not done.
    pub errors: u32,
    /// Those that are under way.
    pub queue: u32,
    /// How long the last ones have taken.
    pub latencies: Latencies,
}

/// What is in a VM's ring.
pub enum Next {
    /// A request.
    Request(Message),
    /// Nothing that can be taken now. It says when that changes, or the end of one of its requests does.
    Nothing,
    /// Look again.
    Again,
}

impl Guest {
    /// A VM of which nothing was taken yet.
    pub fn new(vm: VmId, rate: Rate, entry: Option<(u16, Entry)>, read_only: bool, disk: VmDisk) -> Self {
        let (entry, what) = entry.unzip();
        Guest {
            vm,
            rate,
            entry,
            what,
            read_only,
            disk,
            away: 0,
            more: false,
            requests: 0,
            errors: 0,
            latencies: Latencies::default(),
            unsaid: DiskUse::NONE,
        }
    }

    /// Tells the VM what its disk is.
    pub fn announce(&self, name: Name, blocks: u64) {
        let page = &self.disk.page;
        let flags = if self.read_only { flags::READ_ONLY } else { 0 };
        // They all lie in the page.
        let _ = page.write64(offset_of!(DiskPage, blocks), blocks);
        let _ = page.write32(offset_of!(DiskPage, flags), flags);
        let _ = page.write(offset_of!(DiskPage, name), &name.0);
        let _ = page.store32(offset_of!(DiskPage, state), state::READY);
    }

    /// The next request, if its completion would find room.
    pub fn next(&mut self) -> Next {
        let untaken = match self.disk.completions.in_flight() {
            Ok(untaken) => untaken,
            // Only the core moves an epoch, when nobody serves; who makes one up has lost what was in the ring.
            Err(RingError::EpochChanged) => return Next::Again,
            Err(RingError::Corrupt) => COMPLETION_SLOTS,
        };
        if self.away >= AWAY || untaken + self.away >= COMPLETION_SLOTS {
            self.more = self.away > 0;
            let waits = self.more || self.disk.completions.prepare_wait();
            return if waits { Next::Nothing } else { Next::Again };
        }
        self.disk.completions.cancel_wait();
        self.disk.requests.cancel_wait();
        match self.disk.requests.pop() {
            Ok(Some(request)) => {
                self.away += 1;
                self.requests += 1;
                Next::Request(request)
            }
            Err(RingError::EpochChanged) => Next::Again,
            Ok(None) | Err(RingError::Corrupt) => {
                if self.disk.requests.prepare_wait() {
                    Next::Nothing
                } else {
                    Next::Again
                }
            }
        }
    }

    /// What a request asks for, and its slot if it needs one.
    ///
    /// # Errors
    /// The status that it ends with.
    pub fn order(&self, request: &Message, blocks: u64) -> Result<DiskOrder, u16> {
        let order = DiskOrder::try_from(request).map_err(|_| status::BAD_REQUEST)?;
        if let DiskOrder::Read { slot, .. } | DiskOrder::Write { slot, .. } = order
            && slot >= SLOTS
        {
            return Err(status::BAD_REQUEST);
        }
        if self.read_only && matches!(order, DiskOrder::Write { .. } | DiskOrder::Discard { .. }) {
            return Err(status::READ_ONLY);
        }
        if order.block().is_some_and(|block| block >= blocks) { Err(status::OUT_OF_RANGE) } else { Ok(order) }
    }

    /// Where what lies in a slot is.
    pub fn block_in(&self, slot: u16) -> (SharedMemory, usize) {
        (self.disk.slots, usize::from(slot) * BLOCK_BYTES)
    }

    /// Puts the block that lies at this place of a memory into a slot.
    pub fn fill(&self, slot: u16, from: &SharedMemory, at: usize) -> Option<()> {
        from.copy_to(at, &self.disk.slots, usize::from(slot) * BLOCK_BYTES, BLOCK_BYTES)
    }

    /// A request that was taken has ended. Whether there are perhaps more of them than there was room for.
    #[must_use]
    pub fn complete(&mut self, id: u32, status: u16) -> bool {
        self.away = self.away.saturating_sub(1);
        self.errors = self.errors.saturating_add(u32::from(!matches!(status, status::DONE | status::ZEROS)));
        let message = Message { id, ..DiskCompletion::Ended { status }.into() };
        // There was room. Who has none has lied since then, and hears nothing.
        if self.disk.completions.push(&message) == Err(PushError::EpochChanged) {
            let _ = self.disk.completions.push(&message);
        }
        core::mem::take(&mut self.more)
    }

    /// A request that disks were asked for has taken so many ticks, of which a second has `hz`, and moved a block or not. Whether it is the first of those that the
    /// core has to be told of.
    #[must_use]
    pub fn took(&mut self, ticks: u64, hz: u64, moved: bool) -> bool {
        self.latencies.add(ticks, hz);
        let first = self.unsaid == DiskUse::NONE;
        self.unsaid = self.unsaid.and(DiskUse { requests: 1, blocks: moved.into() });
        first
    }

    /// What the core has to be told of, once.
    #[must_use]
    pub fn unsaid(&mut self) -> Option<DiskUse> {
        Some(core::mem::take(&mut self.unsaid)).filter(|done| *done != DiskUse::NONE)
    }

    /// How its requests do.
    pub fn load(&self) -> Load {
        Load { requests: self.requests, errors: self.errors, queue: self.away, latencies: self.latencies }
    }

    /// Whether nothing of it was taken that has not been completed, nor waits in its ring: so its pages can go where nobody serves them. Completions that it
    /// has not taken yet stay where they are.
    pub fn is_at_rest(&mut self) -> bool {
        self.away == 0 && self.disk.requests.prepare_wait()
    }

    /// Whether the VM wants to hear of completions.
    pub fn listens(&self) -> bool {
        self.disk.completions.consumer_waits()
    }
}
