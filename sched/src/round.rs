//! Those that wait, by tenant: within a tenant first come, first served, and the tenants in turn, one VM each. So whoever has one VM that waits waits
//! for one of each other tenant, however many of theirs do. A VM of which nobody says whose it is, is its own tenant; where all are, they are served
//! in the order in which they came.
//!
//! The VMs of a tenant are a ring of links, of which the first one stands for the tenant: in the round, and in the chain by which the tenant is
//! found. So there is no table of tenants, and no limit to how many there are. Names of tenants are the operator's to give; chains are short as long as nobody
//! chooses them so that they fall on one.

use crate::queue::{Links, List};
use abi::tenant::Tenant;
use abi::vm::Slot;
use component::{Chains, Table, Tables};

/// All that wait. A VM in it is linked by the links that are given to each call, always the same, and by no others in them.
#[derive(Debug)]
pub struct Round {
    /// Whose each VM that waits is.
    tenants: Table<Tenant>,
    /// The first VM of each tenant that has a name, by tenant.
    chains: Chains,
    leaders: Links,
    /// The first VM of each tenant, in turn.
    turns: List<Slot>,
    len: u32,
}

impl Round {
    /// What it takes of [`abi::note::TableBytes::per_slot`].
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SLOT_BYTES: u32 = size_of::<Tenant>() as u32 + Chains::BYTES + Links::BYTES;

    /// Nobody waits.
    pub fn new(tables: &mut Tables) -> Self {
        Round {
            chains: Chains::new(tables.per_slot(), tables.per_slot()),
            tenants: tables.per_slot(),
            leaders: Links::new(tables.per_slot()),
            turns: List::new(),
            len: 0,
        }
    }

    /// Nobody waits any more.
    pub fn clear(&mut self) {
        self.tenants.clear();
        self.chains.clear();
        self.turns = List::new();
        self.len = 0;
    }

    /// How many VMs wait.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whose turn it is.
    pub fn first(&self) -> Option<Slot> {
        self.turns.first()
    }

    /// The first VM of each tenant, in turn.
    pub fn in_turn(&self) -> impl Iterator<Item = Slot> {
        self.turns.all(&self.leaders)
    }

    /// A VM that does not wait does from now on: behind all others of its tenant, and that, if none did, behind all other tenants. Nothing happens when
    /// the machine has no such slot.
    pub fn push_back(&mut self, links: &mut Links, slot: Slot, tenant: Tenant) {
        let first = self.find(tenant);
        if !self.enter(links, slot, tenant, first) {
            return;
        }
        if first.is_none() {
            self.lead(slot);
            self.turns.push_back(&mut self.leaders, slot);
        }
    }

    /// The same, but it is its turn next.
    pub fn push_front(&mut self, links: &mut Links, slot: Slot, tenant: Tenant) {
        let first = self.find(tenant);
        if !self.enter(links, slot, tenant, first) {
            return;
        }
        if let Some(first) = first {
            self.follow(first);
            self.turns.remove(&mut self.leaders, first);
        }
        self.lead(slot);
        self.turns.push_front(&mut self.leaders, slot);
    }

    /// Takes the VM out whose turn it is; the next one of its tenant is behind all other tenants.
    pub fn pop(&mut self, links: &mut Links) -> Option<Slot> {
        let slot = self.turns.pop_front(&mut self.leaders)?;
        self.len -= 1;
        self.follow(slot);
        if let Some(next) = links.part(slot) {
            self.lead(next);
            self.turns.push_back(&mut self.leaders, next);
        }
        Some(slot)
    }

    /// Takes a VM out that waits. Its tenant's turn stays where it is.
    pub fn remove(&mut self, links: &mut Links, slot: Slot) {
        self.len -= 1;
        let tenant = self.tenants[slot.index()];
        let leads = tenant.is_unsaid() || self.find(tenant) == Some(slot);
        let next = links.part(slot);
        if !leads {
            return;
        }
        self.follow(slot);
        match next {
            Some(next) => {
                self.lead(next);
                self.turns.replace(&mut self.leaders, slot, next);
            }
            None => self.turns.remove(&mut self.leaders, slot),
        }
    }

    /// Counts a VM in and links it behind the others of its tenant, of which `first` is the first. False when the machine has no such slot.
    fn enter(&mut self, links: &mut Links, slot: Slot, tenant: Tenant, first: Option<Slot>) -> bool {
        let Some(place) = self.tenants.reach(slot.index()) else { return false };
        *place = tenant;
        self.len += 1;
        links.join(slot, first)
    }

    /// The first VM that waits of a tenant that has a name.
    fn find(&self, tenant: Tenant) -> Option<Slot> {
        if tenant.is_unsaid() {
            return None;
        }
        let is_its = |number| self.tenants[Slot::new(number).index()] == tenant;
        self.chains.find(self.chain(tenant), is_its).map(Slot::new)
    }

    // Names are consecutive numbers often.
    fn chain(&self, tenant: Tenant) -> usize {
        self.chains.of_product(tenant.raw())
    }

    /// A VM is the first of its tenant from now on, of which none is.
    fn lead(&mut self, slot: Slot) {
        let tenant = self.tenants[slot.index()];
        if !tenant.is_unsaid() {
            self.chains.link(self.chain(tenant), slot.number());
        }
    }

    /// The first VM of its tenant is that no more.
    fn follow(&mut self, slot: Slot) {
        let tenant = self.tenants[slot.index()];
        if !tenant.is_unsaid() {
            self.chains.unlink(self.chain(tenant), slot.number());
        }
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
