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
use component::{Table, Tables};

/// What is known of a VM that waits.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    tenant: Tenant,
    /// The first VM of the tenant behind this one's in the chain, plus 1; 0 for none.
    chain: u32,
}

/// All that wait. A VM in it is linked by the links that are given to each call, always the same, and by no others in them.
#[derive(Debug)]
pub struct Round {
    nodes: Table<Node>,
    /// First VM of the first tenant of each chain, plus 1; 0 for none.
    heads: Table<u32>,
    /// There are two to this many chains.
    chains_log2: u32,
    leaders: Links,
    /// The first VM of each tenant, in turn.
    turns: List<Slot>,
    len: u32,
}

impl Round {
    /// What it takes of [`abi::note::TableBytes::per_slot`].
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SLOT_BYTES: u32 = (size_of::<Node>() + size_of::<u32>()) as u32 + Links::BYTES;

    /// Nobody waits.
    pub fn new(tables: &mut Tables) -> Self {
        let heads: Table<u32> = tables.per_slot();
        Round {
            chains_log2: heads.capacity().checked_ilog2().unwrap_or(0),
            heads,
            nodes: tables.per_slot(),
            leaders: Links::new(tables.per_slot()),
            turns: List::new(),
            len: 0,
        }
    }

    /// Nobody waits any more.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.heads.clear();
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
        let tenant = self.nodes[slot.index()].tenant;
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
        let Some(node) = self.nodes.reach(slot.index()) else { return false };
        *node = Node { tenant, chain: 0 };
        self.len += 1;
        links.join(slot, first)
    }

    /// The chain of a tenant: by the upper bits of a product (Knuth, volume 3, 6.4), as names are consecutive numbers often.
    fn chain(&self, tenant: Tenant) -> usize {
        let mixed = tenant.raw().wrapping_mul(0x9e37_79b1);
        // As many bits as the index of a slot has.
        mixed.checked_shr(u32::BITS - self.chains_log2).unwrap_or(0) as usize
    }

    /// The first VM that waits of a tenant that has a name.
    fn find(&self, tenant: Tenant) -> Option<Slot> {
        if tenant.is_unsaid() {
            return None;
        }
        let mut at = *self.heads.get(self.chain(tenant))?;
        while let Some(number) = at.checked_sub(1) {
            let slot = Slot::new(number);
            let node = self.nodes.get(slot.index())?;
            if node.tenant == tenant {
                return Some(slot);
            }
            at = node.chain;
        }
        None
    }

    /// A VM is the first of its tenant from now on, of which none is.
    fn lead(&mut self, slot: Slot) {
        let tenant = self.nodes[slot.index()].tenant;
        let chain = self.chain(tenant);
        if !tenant.is_unsaid()
            && let Some(head) = self.heads.reach(chain)
        {
            self.nodes[slot.index()].chain = core::mem::replace(head, slot.number() + 1);
        }
    }

    /// The first VM of its tenant is that no more.
    fn follow(&mut self, slot: Slot) {
        let Node { tenant, chain: next } = self.nodes[slot.index()];
        let chain = self.chain(tenant);
        if tenant.is_unsaid() {
            return;
        }
        let me = slot.number() + 1;
        let mut at = self.heads[chain];
        if at == me {
            self.heads[chain] = next;
            return;
        }
        while let Some(before) = at.checked_sub(1) {
            let before = &mut self.nodes[Slot::new(before).index()];
            at = before.chain;
            if at == me {
                before.chain = next;
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
