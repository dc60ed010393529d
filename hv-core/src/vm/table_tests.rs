use super::*;
use crate::memory::{Owner, frames::Frames};
use crate::vm::bench_test::{Bench, Fake, seed};

fn table(slots: usize) -> Table<Fake> {
    Table::new(vec![Slot { context: 5, incarnation: 9 }; slots].leak())
}

fn frame(frames: &mut Frames) -> PhysAddr {
    frames.alloc_zeroed(Owner::VmMeta(0), 1).expect("room")
}

/// Put a VM into the next free slot.
fn add(table: &mut Table<Fake>, frames: &mut Frames) -> VmId {
    let id = table.free_slot().expect("a free slot");
    let frame = frame(frames);
    // SAFETY: the frame was just zeroed for this VM alone.
    let vm = unsafe { table.insert(frame, seed(id)) };
    assert_eq!(vm.map(|vm| vm.id), Some(id));
    id
}

fn id(index: u16, incarnation: u16) -> VmId {
    VmId { index, incarnation }
}

#[test]
fn a_new_table_has_no_vm_whatever_its_memory_held() {
    let mut table = table(3);
    assert_eq!((table.living(), table.slots().collect::<Vec<_>>()), (0, vec![0, 1, 2]));
    assert!((0..4).all(|slot| table.get(slot).is_none()));
    assert_eq!(table.free_slot(), Some(id(0, 1)));
}

#[test]
fn slots_are_listed_from_any_one_on() {
    let table = table(5);
    assert_eq!(table.slots_from(3).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(table.slots_from(5).count(), 0);
    assert_eq!(table.slots_from(u16::MAX).count(), 0);
}

#[test]
fn a_vm_lies_in_its_slot_as_it_was_asked_for() {
    let (mut bench, mut table) = (Bench::new(16), table(4));
    let id = add(&mut table, &mut bench.frames);
    let vm = table.get(0).expect("it lives");
    assert_eq!((vm.id, vm.slot(), vm.image, vm.ipv4, vm.created_tsc), (id, 0, 3, 0x0a00_0001, 12_345));
    assert_eq!((vm.control_frame, vm.args), (PhysAddr::from_frame(77), seed(id).args));
    assert_eq!((vm.alarm, vm.ran_ticks, vm.burst_ticks), (u64::MAX, 0, 0));
    assert!(vm.hazard.is_none() && vm.life.is_waiting());
    assert_eq!(vm.deadline(), u64::MAX);
    assert_eq!(table.living(), 1);
}

#[test]
fn the_next_look_at_a_vm_is_at_its_alarm_or_the_end_of_its_idle() {
    let (mut bench, mut table) = (Bench::new(32), table(1));
    add(&mut table, &mut bench.frames);
    let vm = table.get(0).expect("it lives");
    bench.admit(&mut vm.life);
    vm.alarm = 500;
    assert_eq!(vm.deadline(), 500);
    vm.life.idle(400);
    assert_eq!(vm.deadline(), 400);
    vm.alarm = 300;
    assert_eq!(vm.deadline(), 300);
}

#[test]
fn slots_are_filled_in_order_until_none_is_free() {
    let (mut bench, mut table) = (Bench::new(16), table(3));
    let ids: Vec<_> = (0..3).map(|_| add(&mut table, &mut bench.frames)).collect();
    assert_eq!(ids, [id(0, 1), id(1, 1), id(2, 1)]);
    assert_eq!((table.free_slot(), table.living()), (None, 3));
}

#[test]
fn a_freed_slot_is_the_next_to_be_used_and_its_vm_has_a_new_name() {
    let (mut bench, mut table) = (Bench::new(16), table(4));
    let ids: Vec<_> = (0..3).map(|_| add(&mut table, &mut bench.frames)).collect();
    let first = PhysAddr::from_frame(1);
    assert_eq!(table.remove(1), Some(first.offset(4096)));
    assert_eq!((table.living(), table.get(1).is_none()), (2, true));
    let successor = add(&mut table, &mut bench.frames);
    assert_eq!(successor, id(1, 2));
    // The old name does not mean the successor, nor does one that comes.
    assert!(table.by_id(ids[1]).is_none() && table.by_id(id(1, 3)).is_none());
    assert_eq!(table.by_id(successor).map(|vm| vm.id), Some(successor));
    assert_eq!(table.by_id(ids[2]).map(|vm| vm.id), Some(ids[2]));
    // Behind the slot that was freed last there is a free one; from the end the search goes on at the beginning.
    assert_eq!(add(&mut table, &mut bench.frames), id(3, 1));
    assert_eq!(table.remove(0), Some(first));
    table.hint = 3;
    assert_eq!(table.free_slot(), Some(id(0, 2)));
}

#[test]
fn nothing_is_taken_out_of_a_free_slot_or_beyond_the_last() {
    let (mut bench, mut table) = (Bench::new(16), table(2));
    add(&mut table, &mut bench.frames);
    assert_eq!((table.remove(1), table.remove(2), table.living()), (None, None, 1));
    assert!(table.remove(0).is_some());
    assert_eq!((table.remove(0), table.living()), (None, 0));
}

#[test]
fn the_65536th_vm_of_a_slot_has_a_name_again_that_is_not_zero() {
    let mut table = table(1);
    for (last, next) in [(1, 2), (65_534, 65_535), (65_535, 1)] {
        table.slots[0].incarnation = last;
        assert_eq!(table.free_slot(), Some(id(0, next)));
    }
}

#[test]
fn a_taken_slot_takes_no_second_vm() {
    let (mut bench, mut table) = (Bench::new(16), table(2));
    let first = add(&mut table, &mut bench.frames);
    let other = frame(&mut bench.frames);
    // SAFETY: the frame was just zeroed for this VM alone.
    assert!(unsafe { table.insert(other, seed(id(0, 2))) }.is_none());
    assert_eq!((table.living(), table.get(0).map(|vm| vm.id)), (1, Some(first)));
    // SAFETY: as above; the slot does not exist.
    assert!(unsafe { table.insert(other, seed(id(2, 1))) }.is_none());
    assert_eq!(table.living(), 1);
}

#[test]
fn a_frame_that_means_a_free_slot_or_has_too_large_a_number_takes_no_vm() {
    let mut table = table(1);
    for number in [0, 1 << 32] {
        // SAFETY: nothing is written where the number is refused.
        assert!(unsafe { table.insert(PhysAddr::from_frame(number), seed(id(0, 1))) }.is_none());
        assert_eq!((table.living(), table.free_slot()), (0, Some(id(0, 1))));
    }
}

#[test]
fn a_table_without_slots_has_none_free() {
    assert_eq!(table(0).free_slot(), None);
}
