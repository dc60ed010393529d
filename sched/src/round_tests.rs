//! The order in which those are served that wait.

use super::*;
use abi::note::TableBytes;
use proptest::prelude::*;
use std::collections::VecDeque;

const SLOTS: u32 = 24;

fn tables(slots: u32) -> Tables {
    let bytes = TableBytes { per_slot: Round::SLOT_BYTES + Links::BYTES, ..TableBytes::NONE };
    Tables::on_heap(bytes, slots as usize, 0)
}

fn round(slots: u32) -> (Round, Links) {
    let mut tables = tables(slots);
    (Round::new(&mut tables), Links::new(tables.per_slot()))
}

/// Of a few tenants; the first number is nobody's.
fn tenant(number: usize) -> Tenant {
    ["", "a", "b", "c", "dd", "e-9"].get(number).and_then(|name| Tenant::new(name)).unwrap_or_default()
}

/// Tenants in turn, and of each those that wait.
#[derive(Debug, Default)]
struct Model(VecDeque<(Tenant, VecDeque<Slot>)>);

impl Model {
    fn of(&self, tenant: Tenant) -> Option<usize> {
        self.0.iter().position(|(other, _)| *other == tenant && !tenant.is_unsaid())
    }

    fn with(&self, slot: Slot) -> Option<usize> {
        self.0.iter().position(|(_, vms)| vms.contains(&slot))
    }

    fn push_back(&mut self, slot: Slot, tenant: Tenant) {
        match self.of(tenant) {
            Some(at) => self.0[at].1.push_back(slot),
            None => self.0.push_back((tenant, VecDeque::from([slot]))),
        }
    }

    fn push_front(&mut self, slot: Slot, tenant: Tenant) {
        let (tenant, mut vms) = match self.of(tenant) {
            Some(at) => self.0.remove(at).expect("there"),
            None => (tenant, VecDeque::new()),
        };
        vms.push_front(slot);
        self.0.push_front((tenant, vms));
    }

    fn pop(&mut self) -> Option<Slot> {
        let (tenant, mut vms) = self.0.pop_front()?;
        let slot = vms.pop_front();
        if !vms.is_empty() {
            self.0.push_back((tenant, vms));
        }
        slot
    }

    fn remove(&mut self, slot: Slot) {
        let at = self.with(slot).expect("it waits");
        self.0[at].1.retain(|&other| other != slot);
        if self.0[at].1.is_empty() {
            self.0.remove(at);
        }
    }
}

#[test]
fn tenants_are_served_in_turn_and_each_in_the_order_of_arrival() {
    let (mut round, mut links) = round(SLOTS);
    for (slot, of) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 0), (5, 0), (6, 2)] {
        round.push_back(&mut links, Slot::new(slot), tenant(of));
    }
    let order: Vec<u32> = core::iter::from_fn(|| round.pop(&mut links)).map(Slot::number).collect();
    assert_eq!((order, round.len()), (vec![0, 3, 4, 5, 1, 6, 2], 0));
}

#[test]
fn what_no_machine_has_does_not_wait() {
    for slots in [0, 1, 3] {
        let (mut round, mut links) = round(slots);
        for of in 0..3 {
            round.push_back(&mut links, Slot::new(slots), tenant(of));
            round.push_front(&mut links, Slot::new(u32::MAX - 1), tenant(of));
        }
        assert_eq!((round.len(), round.first()), (0, None));
        for slot in (0..slots).map(Slot::new) {
            round.push_back(&mut links, slot, tenant(1));
        }
        assert_eq!(round.len(), slots);
        round.clear();
        assert_eq!((round.len(), round.pop(&mut links)), (0, None));
        for slot in (0..slots).map(Slot::new) {
            round.push_back(&mut links, slot, tenant(2));
        }
        assert_eq!(core::iter::from_fn(|| round.pop(&mut links)).count(), slots as usize);
    }
}

#[test]
fn names_that_follow_each_other_lie_in_chains_of_their_own() {
    let (round, _) = round(1 << 12);
    let chains: std::collections::BTreeSet<usize> =
        (1..38).chain(39..76).map(|raw| round.chain(Tenant::from_raw(raw).expect("a name"))).collect();
    assert_eq!(chains.len(), 74);
    assert!(chains.iter().all(|&chain| chain < 1 << 12) && chains.iter().any(|&chain| chain >= 1 << 11));
}

proptest! {
    /// As queues of a queue each.
    #[test]
    fn like_deques_of_deques(steps in prop::collection::vec((0..SLOTS, 0_usize..6, 0_u8..8), 0..300)) {
        // Two chains, or one for each.
        for slots in [SLOTS, 1 << 12] {
            let (mut round, mut links) = round(slots);
            let mut model = Model::default();
            for &(slot, of, what) in &steps {
                let (slot, of) = (Slot::new(slot), tenant(of));
                let waits = model.with(slot).is_some();
                match what {
                    0..4 if !waits => {
                        round.push_back(&mut links, slot, of);
                        model.push_back(slot, of);
                    }
                    4 if !waits => {
                        round.push_front(&mut links, slot, of);
                        model.push_front(slot, of);
                    }
                    0..6 if waits => {
                        round.remove(&mut links, slot);
                        model.remove(slot);
                    }
                    6..8 => prop_assert_eq!(round.pop(&mut links), model.pop()),
                    _ => {}
                }
                prop_assert_eq!(round.first(), model.0.front().and_then(|(_, vms)| vms.front().copied()));
                prop_assert_eq!(round.len() as usize, model.0.iter().map(|(_, vms)| vms.len()).sum::<usize>());
            }
            loop {
                let (next, expected) = (round.pop(&mut links), model.pop());
                prop_assert_eq!(next, expected);
                if next.is_none() {
                    break;
                }
            }
            let is_empty = |chain| round.chains.find(chain, |_| true).is_none();
            prop_assert!((0..1 << 12).all(is_empty), "a tenant of whom nobody waits is found");
        }
    }
}
