use super::*;
use crate::test_machine::memory;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

fn doors(slots: usize) -> Doors {
    Doors::new(&mut Tables::on_heap(Doors::TABLES, slots, 0), Some(memory(BYTES)), 1000)
}

fn hold(doors: &mut Doors, vm: VmId, now: u64) -> Option<usize> {
    let (held, has) = doors.place(vm, 60, now)?;
    doors.hold(held);
    Some(has)
}

#[test]
fn who_knocks_at_every_door_has_every_place_once_and_nobody_a_second() {
    let mut doors = doors(100);
    for slot in 0..64 {
        assert_eq!(hold(&mut doors, VmId::new(slot, 1), 0), Some(0), "{slot}");
    }
    assert_eq!(hold(&mut doors, VmId::new(64, 1), 0), None);
    assert_eq!(hold(&mut doors, VmId::new(3, 1), 0), None);
    assert!(doors.take(VmId::new(3, 1)).is_some() && doors.take(VmId::new(3, 1)).is_none());
    assert_eq!(hold(&mut doors, VmId::new(4, 1), 0), None, "the last half is for those who have none");
    assert_eq!(hold(&mut doors, VmId::new(64, 1), 0), Some(0));
}

#[test]
fn a_tenant_at_every_door_leaves_room_for_others() {
    let mut doors = doors(100);
    let tenants = ["one", "two", "three"].map(|name| Tenant::new(name).expect("a name"));
    // The slots below 30 are the first one's, those below 60 the second's, the others the third's.
    for slot in 0..90 {
        assert!(doors.put(VmId::new(slot, 1), tenants[slot as usize / 30], slot + 1, false));
    }
    let mut knock =
        |slots: core::ops::Range<u32>| slots.filter(|&slot| hold(&mut doors, VmId::new(slot, 1), 0).is_some()).count();
    // As many as are free then.
    assert_eq!([knock(0..30), knock(30..60), knock(60..90)], [30, 17, 9]);
    // All that come for them again and again leave some.
    assert_eq!([knock(0..30), knock(30..60), knock(60..90)], [0, 0, 0]);
    // VMs whose tenant nobody names have what is left.
    assert_eq!([knock(90..100), knock(60..90)], [8, 0]);
}

#[test]
fn one_vm_of_a_tenant_has_no_more_than_its_tenant() {
    let mut doors = doors(100);
    let tenant = Tenant::new("one").expect("a name");
    for slot in 0..40 {
        assert!(doors.put(VmId::new(slot, 1), tenant, slot + 1, false));
    }
    for slot in 0..31 {
        assert_eq!(hold(&mut doors, VmId::new(slot, 1), 0), Some(0));
    }
    assert_eq!(hold(&mut doors, VmId::new(7, 1), 0), Some(1), "the first half");
    assert_eq!(hold(&mut doors, VmId::new(31, 1), 0), None);
    assert_eq!(hold(&mut doors, VmId::new(99, 1), 0), Some(0), "somebody else's");
}

#[test]
fn one_vm_has_its_share() {
    let mut doors = doors(4);
    let vm = VmId::new(1, 1);
    assert_eq!([(); 5].map(|()| hold(&mut doors, vm, 0)), [Some(0), Some(1), Some(2), Some(3), None]);
    assert_eq!(doors.place(VmId::new(2, 1), PLACE_BYTES + 1, 0).map(|(held, _)| held.len), None, "too long");
}

#[test]
fn what_is_held_too_long_is_dropped() {
    let mut doors = doors(4);
    assert_eq!(doors.due(), u64::MAX);
    hold(&mut doors, VmId::new(1, 1), 10);
    hold(&mut doors, VmId::new(2, 1), 20);
    assert_eq!((doors.due(), doors.expire(2009), doors.expire(2010)), (2010, 0, 1));
    assert_eq!((doors.due(), doors.held()), (2020, 1));
    assert_eq!(doors.remove(VmId::new(2, 1)), 1);
    assert_eq!(doors.due(), u64::MAX);
}

#[test]
fn without_memory_nothing_is_held_and_questions_are_answered_all_the_same() {
    let mut doors = Doors::new(&mut Tables::on_heap(Doors::TABLES, 4, 0), Some(memory(BYTES - 16)), 1000);
    let vm = VmId::new(1, 1);
    assert!(doors.put(vm, Tenant::UNSAID, 7, false) && doors.place(vm, 60, 0).is_none());
    assert_eq!((doors.owner(7), doors.at(vm.slot)), (Some(vm.slot), Some((vm, 7))));
}

proptest! {
    #[test]
    fn agrees_with_a_map(steps in proptest::collection::vec((0..8_u32, 1..3_u32, 1..12_u32, 0..6_u8), 0..200)) {
        let mut doors = doors(7);
        let mut model: BTreeMap<u32, (VmId, u32)> = BTreeMap::new();
        let mut held: Vec<VmId> = Vec::new();
        for (slot, generation, ipv4, what) in steps {
            let vm = VmId::new(slot, generation);
            match what {
                0..3 => {
                    // Who creates VMs gives no address twice.
                    if model.values().any(|&(other, address)| address == ipv4 && other.slot != vm.slot) {
                        continue;
                    }
                    prop_assert_eq!(doors.put(vm, Tenant::UNSAID, ipv4, ipv4 % 2 == 0), slot < 7);
                    if slot < 7 {
                        model.insert(slot, (vm, ipv4));
                    }
                }
                3 => {
                    let dropped = held.iter().filter(|&&other| other == vm).count() as u64;
                    prop_assert_eq!(doors.remove(vm), dropped);
                    held.retain(|&other| other != vm);
                    if model.get(&slot).is_some_and(|&(other, _)| other == vm) {
                        model.remove(&slot);
                    }
                }
                4 => {
                    if hold(&mut doors, vm, 0).is_some() {
                        held.push(vm);
                    }
                }
                _ => {
                    let first = held.iter().position(|&other| other == vm);
                    prop_assert_eq!(doors.take(vm).map(|held| held.vm), first.map(|at| held.remove(at)));
                }
            }
            prop_assert_eq!(doors.is_empty(), model.is_empty());
            prop_assert_eq!(doors.held(), held.len());
            prop_assert_eq!(doors.taken.count_ones() as usize, held.len());
            for slot in 0..8 {
                prop_assert_eq!(doors.at(Slot::new(slot)), model.get(&slot).copied());
                let ran = model.get(&slot).is_some_and(|&(_, ipv4)| ipv4 % 2 == 0);
                prop_assert_eq!(doors.has_run(Slot::new(slot)), ran);
            }
            for ipv4 in 1..12 {
                let owner = model.values().find(|&&(_, address)| address == ipv4).map(|&(vm, _)| vm.slot);
                prop_assert_eq!(doors.owner(ipv4), owner);
            }
        }
        prop_assert_eq!(doors.clear(), held.len() as u64);
        prop_assert!(doors.is_empty() && doors.taken == 0 && (1..12).all(|ipv4| doors.owner(ipv4).is_none()));
    }
}
