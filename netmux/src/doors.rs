//! VMs that are out: who they are, at which address, and the first packets for those that have been called, until they are attached.
//!
//! Bounded, whoever knocks where: a VM is called when the first of its packets has found a place, so no more calls are under way than there
//! are places; it gets more places only while half of them are free, and not more than its share; the VMs of one tenant have no more places than are
//! left free for others (as switches share buffers, Choudhury and Hahne 1998), so one tenant has half of them at most, and
//! n tenants leave one part in n + 1 free, however much comes for them; and a packet that nobody has taken for a while is dropped. What finds no place is counted, and its sender tries again.

use abi::nic::{Listens, MAX_FRAME};
use abi::note::TableBytes;
use abi::tenant::Tenant;
use abi::vm::{Slot, VmId};
use component::{Chains, Table, Tables};
use rate_limit::RateLimit;
use ring::SharedMemory;

/// Packets that are held at most, and of them for one VM.
pub const PLACES: usize = 64;
const SHARE: usize = 4;
/// Bytes of a place: a multiple of 8.
const PLACE_BYTES: usize = (MAX_FRAME + 7) & !7;
/// Bytes of memory for all places, and for a frame that is put together here.
pub const BYTES: usize = (PLACES + 1) * PLACE_BYTES;
/// A packet is held that long, in seconds: longer than a client waits until it tries again (RFC 6298).
const HOLD_SECONDS: u64 = 2;

const _: () = assert!(PLACES <= u64::BITS as usize);

/// A VM that is out.
#[derive(Clone, Copy, Debug, Default)]
struct Door {
    /// 0 where there is none.
    generation: u32,
    tenant: Tenant,
    ipv4: u32,
    /// It has run, so it may have connections.
    ran: bool,
    /// It has said at which ports it takes datagrams,
    said: bool,
    /// and these are they.
    ports: Ports,
    /// It has said at which ports it accepts connections,
    accepts: bool,
    /// and these are they.
    tcp_ports: Ports,
}

/// See [`Listens`].
type Ports = [u16; 10];

/// Refusals that are sent for VMs that are out, in a second and at once.
const REFUSALS: RateLimit = RateLimit::new(1_000, 100);

/// A packet that is held.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Whose it is.
    pub vm: VmId,
    tenant: Tenant,
    /// Where it lies in [`Doors::memory`],
    pub offset: usize,
    /// and its bytes.
    pub len: usize,
    /// When it is dropped, in ticks.
    until: u64,
}

/// All of them.
pub struct Doors {
    slots: Table<Door>,
    /// By address.
    chains: Chains,
    count: u32,
    memory: Option<SharedMemory>,
    /// In the order in which they came.
    held: heapless::Deque<Held, PLACES>,
    /// Bit `i`: place `i` is taken.
    taken: u64,
    hold_ticks: u64,
    refusals: RateLimit,
}

impl Doors {
    /// What they take of the tables.
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const TABLES: TableBytes =
        TableBytes { per_slot: size_of::<Door>() as u32 + Chains::BYTES, per_seat: 0, ..TableBytes::NONE };

    /// Nobody is out. Without `BYTES` of memory no packet is held.
    pub fn new(tables: &mut Tables, memory: Option<SharedMemory>, ticks_per_second: u64) -> Self {
        Doors {
            slots: tables.per_slot(),
            chains: Chains::new(tables.per_slot(), tables.per_slot()),
            count: 0,
            memory: memory.filter(|memory| memory.len() >= BYTES),
            held: heapless::Deque::new(),
            taken: 0,
            hold_ticks: ticks_per_second.saturating_mul(HOLD_SECONDS),
            refusals: REFUSALS,
        }
    }

    /// Nobody is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A VM of a tenant is out, at this address; it has `ran` before, or never. False when the machine has no such slot.
    pub fn put(&mut self, vm: VmId, tenant: Tenant, ipv4: u32, ran: bool) -> bool {
        if self.slots.get(vm.slot.index()).is_some_and(|door| door.generation != 0) {
            if self.at(vm.slot) == Some((vm, ipv4)) {
                self.slots[vm.slot.index()].ran = ran;
                return true;
            }
            self.remove_slot(vm.slot);
        }
        let Some(door) = self.slots.reach(vm.slot.index()) else { return false };
        *door = Door { generation: vm.generation, tenant, ipv4, ran, ..Door::default() };
        self.count += 1;
        self.chains.link(self.chains.of_run(ipv4), vm.slot.number())
    }

    /// It is not out any more, or gone. What is held for it is dropped; how many packets that is.
    pub fn remove(&mut self, vm: VmId) -> u64 {
        if self.at(vm.slot).is_some_and(|(other, _)| other == vm) {
            self.remove_slot(vm.slot);
        }
        let mut dropped = 0;
        while self.take(vm).is_some() {
            dropped += 1;
        }
        dropped
    }

    fn remove_slot(&mut self, slot: Slot) {
        let Door { ipv4, .. } = core::mem::take(&mut self.slots[slot.index()]);
        self.count -= 1;
        self.chains.unlink(self.chains.of_run(ipv4), slot.number());
    }

    /// The VM that is out of a slot, and its address.
    pub fn at(&self, slot: Slot) -> Option<(VmId, u32)> {
        let door = self.slots.get(slot.index()).filter(|door| door.generation != 0)?;
        Some((VmId { slot, generation: door.generation }, door.ipv4))
    }

    /// Whether the VM that is out of a slot has run.
    pub fn has_run(&self, slot: Slot) -> bool {
        self.slots.get(slot.index()).is_some_and(|door| door.ran)
    }

    /// What the VM said that it listens to which is out of this slot. Nothing happens where none is.
    pub fn keep(&mut self, slot: Slot, listens: &Listens) {
        if let Some(door) = self.slots.get_mut(slot.index()).filter(|door| door.generation != 0) {
            (door.said, door.ports) = (listens.said == Listens::SAID, listens.broadcast_ports);
            (door.accepts, door.tcp_ports) = (listens.accepts == Listens::SAID, listens.tcp_ports);
        }
    }

    /// Whether a datagram to this port is for the VM that is out of a slot, as far as it has said.
    pub fn takes(&self, slot: Slot, port: u16) -> bool {
        let Some(door) = self.slots.get(slot.index()) else { return false };
        !door.said || (port != 0 && door.ports.contains(&port))
    }

    /// Whether a connection to this port is for the VM that is out of a slot, as far as it has said.
    pub fn accepts(&self, slot: Slot, port: u16) -> bool {
        let Some(door) = self.slots.get(slot.index()) else { return false };
        !door.accepts || (port != 0 && door.tcp_ports.contains(&port))
    }

    /// Whether a VM has been called: something is held for it.
    pub fn is_called(&self, vm: VmId) -> bool {
        self.held.iter().any(|held| held.vm == vm)
    }

    /// Whether one more refusal may be sent.
    pub fn may_refuse(&mut self, now: u64) -> bool {
        self.refusals.allow(now, self.hold_ticks / HOLD_SECONDS).is_some()
    }

    /// The slot of the VM that is out and has this address.
    pub fn owner(&self, ipv4: u32) -> Option<Slot> {
        let is_it = |number| self.slots[Slot::new(number).index()].ipv4 == ipv4;
        self.chains.find(self.chains.of_run(ipv4), is_it).map(Slot::new)
    }

    /// A place for a packet of this VM, which has so many already. `None`: there is none for it.
    pub fn place(&mut self, vm: VmId, len: usize, now: u64) -> Option<(Held, usize)> {
        self.memory?;
        let tenant = self.slots.get(vm.slot.index()).map_or(Tenant::UNSAID, |door| door.tenant);
        let has = self.held.iter().filter(|held| held.vm == vm).count();
        let of_tenant = self.held.iter().filter(|held| held.tenant == tenant && !tenant.is_unsaid()).count();
        let free = PLACES - self.held.len();
        let plenty = free > PLACES / 2;
        if len > PLACE_BYTES || free <= of_tenant || (has != 0 && (!plenty || has >= SHARE)) {
            return None;
        }
        // One is free, as not all are held.
        let place = (!self.taken).trailing_zeros() as usize;
        let held = Held { vm, tenant, offset: place * PLACE_BYTES, len, until: now.saturating_add(self.hold_ticks) };
        Some((held, has))
    }

    /// The packet lies in its place.
    pub fn hold(&mut self, held: Held) {
        if self.held.push_back(held).is_ok() {
            self.taken |= 1 << (held.offset / PLACE_BYTES);
        }
    }

    /// The oldest packet of a VM, which is held no longer. It lies where it lay until the next call.
    pub fn take(&mut self, vm: VmId) -> Option<Held> {
        let mut found = None;
        // Once around: the others stay in their order.
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else { break };
            if found.is_none() && held.vm == vm {
                found = Some(held);
                self.taken &= !(1 << (held.offset / PLACE_BYTES));
            } else {
                let _ = self.held.push_back(held);
            }
        }
        found
    }

    /// When the oldest packet is dropped; [`u64::MAX`] for never.
    #[inline]
    pub fn due(&self) -> u64 {
        self.held.front().map_or(u64::MAX, |held| held.until)
    }

    /// Drops those that have been held for too long. How many.
    pub fn expire(&mut self, now: u64) -> u64 {
        let mut dropped = 0;
        while self.due() <= now
            && let Some(held) = self.held.pop_front()
        {
            self.taken &= !(1 << (held.offset / PLACE_BYTES));
            dropped += 1;
        }
        dropped
    }

    /// Packets that are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The memory in which packets are held, and where in it a frame can be put together.
    pub fn memory(&self) -> Option<(SharedMemory, usize)> {
        Some((self.memory?, PLACES * PLACE_BYTES))
    }

    /// Nobody is out, and nothing is held. How many packets were.
    pub fn clear(&mut self) -> u64 {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(0) {
            if self.slots[Slot::new(slot).index()].generation != 0 {
                self.remove_slot(Slot::new(slot));
            }
        }
        let dropped = self.held.len() as u64;
        self.held.clear();
        self.taken = 0;
        dropped
    }
}

#[cfg(test)]
#[path = "doors_tests.rs"]
mod tests;
