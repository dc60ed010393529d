use super::*;
use crate::memory::{Owner, frames::Frames};
use crate::vm::bench_test::{Bench, Fake};
use crate::vm::seats::EMPTY_SEAT;
use crate::vm::tenants::EMPTY_ACCOUNT;
use abi::quota::Quota;
use abi::tenant::Tenant;
use abi::vm::ImageId;

const ARGS: &[u8] = b"ip=dhcp a=b";
const CONTROL: u64 = 77;

fn accounts() -> &'static mut [Account] {
    vec![EMPTY_ACCOUNT; 4].leak()
}

fn table(slots: usize) -> Table<Fake> {
    table_with_cells(slots, slots)
}

fn table_with_seats(slots: usize, seats: usize) -> Table<Fake> {
    Table::new(
        vec![0; slots].leak(),
        vec![Record::EMPTY; slots].leak(),
        vec![Cell::EMPTY; slots].leak(),
        vec![EMPTY_SEAT; seats].leak(),
        accounts(),
        Written::default(),
    )
}

fn table_with_cells(slots: usize, cells: usize) -> Table<Fake> {
    let before = Record { place: place::ADMITTED, generation: 9, ..Record::EMPTY };
    Table::new(
        vec![5; slots].leak(),
        vec![before; slots].leak(),
        vec![Cell::EMPTY; cells].leak(),
        vec![EMPTY_SEAT; slots].leak(),
        accounts(),
        Written::default(),
    )
}

const CLAIM: abi::claim::Claim = abi::claim::Claim { reserve: 14, limit: 300 };

fn seed(id: VmId) -> Seed {
    Seed {
        id,
        image: ImageId::new(3),
        ipv4: 0x0a00_0001,
        share: abi::share::Share::DEFAULT,
        claim: CLAIM,
        tenant: abi::tenant::Tenant::UNSAID,
        disk: abi::attachment::Attachment::NONE,
        created_tsc: 12_345,
        stolen_ms: 7,
    }
}

/// Create the next VM.
fn create(table: &mut Table<Fake>) -> VmId {
    let id = table.next_id().expect("a free slot");
    assert_eq!(table.create(seed(id), ARGS), Ok(()));
    id
}

/// Admit a VM that waits, in this frame.
fn admit_in(table: &mut Table<Fake>, frame: PhysAddr, id: VmId) -> bool {
    // SAFETY: the frame was just zeroed for this VM alone, or is refused without being written to.
    unsafe { table.admit(frame, PhysAddr::from_frame(CONTROL), seed(id)) }.is_some_and(|vm| vm.id == id)
}

fn frame(frames: &mut Frames) -> PhysAddr {
    frames.alloc_zeroed(Owner::VmMeta(0), 1).expect("room")
}

/// Create the next VM, and admit it.
fn add(table: &mut Table<Fake>, frames: &mut Frames) -> VmId {
    let id = create(table);
    assert!(admit_in(table, frame(frames), id));
    id
}

fn luggage(table: &mut Table<Fake>, slot: Slot) -> (u64, Vec<u8>) {
    let mut args = BootArgs::from_slice(b"what was there").expect("short");
    let early = table.take_luggage(slot, &mut args);
    (early, args.to_vec())
}

fn slot(number: u32) -> Slot {
    Slot::new(number)
}

#[test]
fn a_new_table_has_no_vm_whatever_its_memory_held() {
    let mut table = table(3);
    assert_eq!((table.living(), table.slots().count(), table.capacity()), (0, 0, 3));
    assert!((0..4).map(slot).all(|slot| table.get(slot).is_none() && table.waiting_in(slot).is_none()));
    assert_eq!(table.next_id(), Some(VmId::new(0, 1)));
}

#[test]
fn used_slots_are_counted_and_listed() {
    let mut table = table(5);
    (0..4).for_each(|_| _ = create(&mut table));
    assert_eq!(table.slots().collect::<Vec<_>>(), [0, 1, 2, 3].map(slot));
    assert_eq!(table.used(), 4);
    table.remove(slot(3));
    assert_eq!(table.used(), 4, "they stay used");
}

#[test]
fn an_admitted_vm_has_a_seat_until_it_is_gone() {
    let mut bench = Bench::new(64);
    let frames = &mut bench.frames;
    let mut table = table_with_seats(4, 2);
    let first = add(&mut table, frames);
    let waits = create(&mut table);
    let second = add(&mut table, frames);
    let seats = [first, second].map(|id| table.by_id(id).expect("admitted").seat);
    assert_eq!((seats.map(abi::vm::Seat::number), table.seats().free()), ([0, 1], 0));
    assert_eq!(seats.map(|seat| table.in_seat(seat).map(|vm| vm.id)), [Some(first), Some(second)]);
    // Nobody has taken anything when there is no seat.
    let context = frame(frames);
    assert!(!admit_in(&mut table, context, waits));
    assert_eq!((table.waiting(waits).map(|seed| seed.id), table.get(waits.slot).is_none()), (Some(waits), true));
    table.remove(first.slot);
    assert!(table.in_seat(seats[0]).is_none() && table.seats().free() == 1);
    assert!(admit_in(&mut table, context, waits));
    assert_eq!(table.in_seat(seats[0]).map(|vm| vm.id), Some(waits));
}

#[test]
fn a_vm_that_waits_is_its_record() {
    let mut table = table(2);
    let id = create(&mut table);
    assert_eq!(table.waiting(id), Some(seed(id)));
    assert_eq!(table.waiting_in(id.slot), Some(seed(id)));
    assert!(table.waiting(VmId { generation: 2, ..id }).is_none() && table.waiting_in(slot(1)).is_none());
    assert!(table.get(id.slot).is_none() && table.by_id(id).is_none());
    assert_eq!(table.living(), 1);
}

#[test]
fn what_comes_early_is_kept_for_the_admission() {
    let mut table = table(2);
    let id = create(&mut table);
    assert!(table.raise_early(id, 1) && table.raise_early(id, 4));
    assert!(!table.raise_early(VmId { generation: 2, ..id }, 2) && !table.raise_early(VmId::new(1, 0), 2));
    assert_eq!(luggage(&mut table, id.slot), (5, ARGS.to_vec()));
    assert_eq!(luggage(&mut table, id.slot), (0, vec![]));
    assert_eq!(luggage(&mut table, slot(2)), (0, vec![]));
}

#[test]
fn a_vm_lies_in_its_context_as_it_was_asked_for() {
    let (mut bench, mut table) = (Bench::new(16), table(4));
    let id = add(&mut table, &mut bench.frames);
    let vm = table.get(slot(0)).expect("it lives");
    assert_eq!((vm.id, vm.slot(), vm.image), (id, slot(0), ImageId::new(3)));
    assert_eq!((vm.ipv4, vm.created_tsc), (0x0a00_0001, 12_345));
    assert_eq!(vm.control_frame, PhysAddr::from_frame(CONTROL));
    assert_eq!((vm.alarm, vm.ran_ticks, vm.burst_ticks), (u64::MAX, 0, 0));
    assert!(vm.hazard.is_none() && vm.life.is_new());
    assert_eq!(vm.deadline(), u64::MAX);
    assert_eq!((table.living(), table.waiting(id), table.raise_early(id, 1)), (1, None, false));
}

#[test]
fn the_next_look_at_a_vm_is_at_its_alarm_or_the_end_of_its_idle() {
    let (mut bench, mut table) = (Bench::new(32), table(1));
    add(&mut table, &mut bench.frames);
    let vm = table.get(slot(0)).expect("it lives");
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
    let mut table = table(3);
    let ids: Vec<_> = (0..3).map(|_| create(&mut table)).collect();
    assert_eq!(ids, [VmId::new(0, 1), VmId::new(1, 1), VmId::new(2, 1)]);
    assert_eq!((table.next_id(), table.living()), (None, 3));
    assert_eq!(table.create(seed(VmId::new(3, 1)), ARGS), Err(NotCreated::NotNext));
}

#[test]
fn a_freed_slot_is_the_next_to_be_used_and_its_vm_has_a_new_name() {
    let (mut bench, mut table) = (Bench::new(16), table(4));
    let ids: Vec<_> = (0..3).map(|_| add(&mut table, &mut bench.frames)).collect();
    let first = PhysAddr::from_frame(1);
    assert_eq!(table.remove(slot(0)), Some(first));
    assert_eq!(table.remove(slot(1)), Some(first.offset(4096)));
    assert_eq!((table.living(), table.get(slot(1)).is_none()), (1, true));
    // The one that was freed last comes first.
    let successor = add(&mut table, &mut bench.frames);
    assert_eq!(successor, VmId::new(1, 2));
    // The old name does not mean the successor, nor does one that comes.
    assert!(table.by_id(ids[1]).is_none() && table.by_id(VmId::new(1, 3)).is_none());
    assert_eq!(table.by_id(successor).map(|vm| vm.id), Some(successor));
    assert_eq!(table.by_id(ids[2]).map(|vm| vm.id), Some(ids[2]));
    assert_eq!(create(&mut table), VmId::new(0, 2));
    assert_eq!(create(&mut table), VmId::new(3, 1));
    assert_eq!(table.next_id(), None);
}

#[test]
fn a_vm_that_waits_leaves_its_slot_and_its_cells() {
    let mut table = table_with_cells(3, 1);
    let id = create(&mut table);
    let next = table.next_id().expect("a free slot");
    assert_eq!(table.create(seed(next), ARGS), Err(NotCreated::ArgumentsTaken), "no cell is free");
    assert_eq!((table.living(), table.next_id()), (1, Some(next)));
    assert_eq!(table.create(seed(next), b""), Ok(()), "none is needed");
    assert_eq!(table.remove(id.slot), None);
    assert_eq!((table.living(), table.waiting(id), table.next_id()), (1, None, Some(VmId::new(0, 2))));
    create(&mut table);
}

#[test]
fn arguments_are_kept_until_the_admission_takes_them() {
    let (mut bench, mut table) = (Bench::new(16), table_with_cells(2, 1));
    let id = create(&mut table);
    assert_eq!(luggage(&mut table, id.slot), (0, ARGS.to_vec()));
    assert!(admit_in(&mut table, frame(&mut bench.frames), id));
    create(&mut table);
}

#[test]
fn nothing_is_taken_out_of_a_free_slot_or_beyond_the_last() {
    let (mut bench, mut table) = (Bench::new(16), table(2));
    add(&mut table, &mut bench.frames);
    assert_eq!((table.remove(slot(1)), table.remove(slot(2)), table.living()), (None, None, 1));
    assert!(table.remove(slot(0)).is_some());
    assert_eq!((table.remove(slot(0)), table.living()), (None, 0));
    assert_eq!([create(&mut table), create(&mut table)], [VmId::new(0, 2), VmId::new(1, 1)]);
}

#[test]
fn after_the_last_generation_of_a_slot_comes_one_that_is_not_zero() {
    let table = table(1);
    for (last, next) in [(1, 2), (u32::MAX - 1, u32::MAX), (u32::MAX, 1)] {
        table.records[0].generation = last;
        assert_eq!(table.next_id(), Some(VmId::new(0, next)));
    }
}

#[test]
fn only_the_next_id_is_created() {
    let mut table = table(2);
    for other in [VmId::new(0, 2), VmId::new(1, 1)] {
        assert_eq!(table.create(seed(other), ARGS), Err(NotCreated::NotNext));
    }
    assert_eq!((table.living(), table.slots().count()), (0, 0));
}

#[test]
fn only_a_vm_that_waits_is_admitted() {
    let (mut bench, mut table) = (Bench::new(16), table(2));
    let first = add(&mut table, &mut bench.frames);
    let other = frame(&mut bench.frames);
    for id in [first, VmId { generation: 2, ..first }, VmId::new(1, 1), VmId::new(2, 1)] {
        assert!(!admit_in(&mut table, other, id), "{id}");
    }
    assert_eq!((table.living(), table.get(slot(0)).map(|vm| vm.id)), (1, Some(first)));
}

#[test]
fn a_frame_that_means_none_or_has_too_large_a_number_takes_no_vm() {
    let mut table = table(1);
    let id = create(&mut table);
    for number in [0, 1 << 32] {
        assert!(!admit_in(&mut table, PhysAddr::from_frame(number), id));
        assert_eq!(table.waiting(id), Some(seed(id)));
    }
}

#[test]
fn a_table_without_slots_has_none_free() {
    assert_eq!(table(0).next_id(), None);
}

#[test]
fn what_boot_has_written_comes_to_live_once_and_in_its_place() {
    let mut records = vec![Record::EMPTY; 4];
    let blue = Tenant::new("blue").expect("a name");
    let pieces: [(&[u8], u32); 4] = [(b"first", NONE), (&[b'x'; 59], 2), (&[b'x'; 41], NONE), (b"", NONE)];
    let cells = pieces.map(|(piece, next)| Cell::new(piece, next)).to_vec();
    for (record, first) in records.iter_mut().zip([0, 1]) {
        *record = Record::written(
            ImageId::new(3),
            abi::terms::Terms {
                share: abi::share::Share::DEFAULT,
                claim: CLAIM,
                tenant: blue,
                disk: abi::attachment::Attachment::NONE,
            },
            0x0a00_0001,
            Args::at(first),
        );
    }
    let written = Written { slots: 2, cells: 3 };
    let mut table: Table<Fake> =
        Table::new(vec![0; 4].leak(), records.leak(), cells.leak(), vec![EMPTY_SEAT; 4].leak(), accounts(), written);
    // Nobody has been told of them: they are not there yet, and their slots are taken.
    assert_eq!((table.living(), table.used(), table.next_id()), (0, 2, Some(VmId::new(2, 1))));
    // But nobody else takes what is theirs.
    let standing = |table: &Table<Fake>| table.tenants().get(blue).map(|(_, one)| (one.vms, one.frames));
    assert_eq!(standing(&table), Some((2, 600)));
    assert!(table.waiting_in(slot(0)).is_none() && table.remove(slot(0)).is_none());
    assert!(!table.raise_early(VmId::new(0, 1), 1));
    let later = create(&mut table);
    assert_eq!(later, VmId::new(2, 1));
    for (number, text) in [(0, &b"first"[..]), (1, &[b'x'; 100])] {
        let id = VmId::new(number, 1);
        let its = Seed { tenant: blue, ..seed(id) };
        assert_eq!(table.bring_to_life(slot(number), 12_345, 7), Some(its));
        assert_eq!(table.bring_to_life(slot(number), 1, 0), None);
        assert_eq!((table.waiting(id), luggage(&mut table, id.slot)), (Some(its), (0, text.to_vec())));
    }
    assert_eq!(table.living(), 3);
    assert_eq!([slot(2), slot(3), slot(4)].map(|slot| table.bring_to_life(slot, 1, 0)), [None; 3]);
    assert_eq!(standing(&table), Some((2, 600)));
    table.remove(slot(0));
    assert_eq!((table.next_id(), standing(&table)), (Some(VmId::new(0, 2)), Some((1, 300))));
}

#[test]
fn a_tenant_beyond_its_quota_gets_no_vm_and_loses_nothing() {
    let mut table = table(4);
    let blue = Tenant::new("blue").expect("a name");
    assert!(table.tenants_mut().set(blue, Quota { vms: 1, ..Quota::NONE }, abi::flow::Flow::NONE));
    let next = |table: &Table<Fake>| Seed { tenant: blue, ..seed(table.next_id().expect("a free slot")) };
    assert_eq!(table.create(next(&table), ARGS), Ok(()));
    assert_eq!(table.create(next(&table), ARGS), Err(NotCreated::OverQuota(OverQuota::Vms)));
    assert_eq!((table.living(), table.next_id()), (1, Some(VmId::new(1, 1))));
    create(&mut table);
    assert!(table.tenants_mut().set(blue, Quota { vms: 9, frames: 599, ..Quota::NONE }, abi::flow::Flow::NONE));
    assert_eq!(table.create(next(&table), ARGS), Err(NotCreated::OverQuota(OverQuota::Memory)));
    table.remove(slot(0));
    assert_eq!(table.create(next(&table), ARGS), Ok(()));
    assert_eq!(luggage(&mut table, slot(0)), (0, ARGS.to_vec()), "no cell was lost");
}
