use super::check;
use crate::boot::check::{Field, Refused};
use crate::boot::check_tests::good;
use abi::attachment::Attachment;
use abi::boot::{BootRecord, program};
use abi::claim::Claim;
use abi::guest::BOOT_ARGS_MAX;
use abi::manifest::image_flags;
use abi::record::{Args, Cell, NONE, PIECE_BYTES, Record, place};
use abi::share::Share;
use abi::tenant::Tenant;
use abi::terms::Terms;
use abi::vm::ImageId;

/// What the loader leaves: three VMs, of which the second has no arguments, and the others those of two cells and one.
struct Written {
    record: &'static mut BootRecord,
    records: Vec<Record>,
    cells: Vec<Cell>,
}

const TERMS: Terms = Terms {
    share: Share::DEFAULT,
    claim: Claim { reserve: 14, limit: 300 },
    tenant: Tenant::UNSAID,
    disk: Attachment::NONE,
};

fn written() -> Written {
    let record = good();
    (record.vms.written, record.vms.written_cells) = (3, 3);
    let vm = |args| Record::written(ImageId::new(0), TERMS, 0x0a00_0210, args);
    // What is behind says nothing.
    let noise = Record { place: place::ADMITTED, image: ImageId::new(99), ..Record::EMPTY };
    let records = vec![vm(Args::at(0)), vm(Args::EMPTY), vm(Args::at(2)), noise];
    let cells = [(&[b'a'; PIECE_BYTES][..], 1), (b"b", NONE), (b"c", NONE), (b"", 0)];
    Written { record, records, cells: cells.map(|(piece, next)| Cell::new(piece, next)).to_vec() }
}

#[track_caller]
fn refused(lie: impl FnOnce(&mut Written)) -> (Field, u64) {
    let mut left = written();
    lie(&mut left);
    let Err(Refused { field, value }) = check(left.record, &left.records, &left.cells) else {
        panic!("they are believed")
    };
    (field, value)
}

#[test]
fn good_ones_are_believed() {
    let Written { record, records, cells } = written();
    assert_eq!(check(record, &records, &cells), Ok(()));
    (record.vms.written, record.vms.written_cells) = (0, 0);
    assert_eq!(check(record, &records, &cells), Ok(()));
    let whole = BOOT_ARGS_MAX.div_ceil(PIECE_BYTES);
    let mut long: Vec<_> = (1..).take(whole).map(|next| Cell::new(&[b'x'; PIECE_BYTES], next)).collect();
    long[whole - 1] = Cell::new(&[b'x'; BOOT_ARGS_MAX % PIECE_BYTES], NONE);
    (record.vms.written, record.vms.written_cells) = (1, u32::try_from(whole).expect("few"));
    assert_eq!(check(record, &records, &long), Ok(()));
    long[whole - 1] = Cell::new(&[b'x'; BOOT_ARGS_MAX % PIECE_BYTES + 1], NONE);
    let refused = Refused { field: Field::VmArgs, value: whole as u64 - 1 };
    assert_eq!(check(record, &records, &long), Err(refused), "a byte more than a VM may have");
}

#[test]
fn a_record_that_boot_does_not_write_is_refused() {
    let all: [fn(&mut Record); 11] = [
        |vm| vm.place = place::FREE,
        |vm| vm.place = place::WAITING,
        |vm| vm.place = 77,
        |vm| vm.next = 0,
        |vm| vm.generation = 0,
        |vm| vm.held_by = 1,
        |vm| vm.share.weight = u16::MAX,
        |vm| vm.created_tsc = 1,
        |vm| vm.tenant = 1,
        |vm| vm.stolen_ms = 1,
        |vm| vm.early = 1 << 63,
    ];
    for lie in all {
        for slot in [0, 1, 2] {
            assert_eq!(refused(|left| lie(&mut left.records[slot])), (Field::VmRecord, slot as u64));
        }
    }
}

#[test]
fn whose_it_is_its_image_says() {
    let blue = Tenant::new("blue").expect("a name");
    let mut left = written();
    left.record.images[0].entry.tenant = blue.raw();
    left.records.iter_mut().take(3).for_each(|vm| vm.tenant = blue.raw());
    assert_eq!(check(left.record, &left.records, &left.cells), Ok(()));
    for (image, vm) in [(blue.raw(), 0), (0, blue.raw()), (blue.raw(), blue.raw() + 1), (0, 38)] {
        let lie = |left: &mut Written| {
            left.record.images[0].entry.tenant = image;
            left.records[0].tenant = vm;
        };
        assert_eq!(refused(lie), (Field::VmRecord, 0), "{image} {vm}");
    }
}

#[test]
fn one_that_nobody_could_send_its_first_packet_is_refused() {
    let lie = |flags, ipv4| {
        move |left: &mut Written| {
            left.record.images[0].entry.flags = flags;
            left.records[1].ipv4 = ipv4;
        }
    };
    assert_eq!(refused(lie(image_flags::LAZY, 0)), (Field::VmRecord, 1));
    for (flags, ipv4) in [(image_flags::LAZY, 1), (0, 0)] {
        let mut left = written();
        lie(flags, ipv4)(&mut left);
        assert_eq!(check(left.record, &left.records, &left.cells), Ok(()));
    }
}

#[test]
fn an_image_that_cannot_run_is_refused() {
    assert_eq!(refused(|left| left.records[1].image = ImageId::new(1)), (Field::VmImage, 1));
    assert_eq!(refused(|left| left.records[2].image = ImageId::new(u32::MAX)).0, Field::VmImage);
    assert_eq!(refused(|left| left.record.images[0].program.state = program::REFUSED), (Field::VmImage, 0));
}

#[test]
fn arguments_that_are_not_ones_own_or_do_not_end_are_refused() {
    // Somebody else's, out of order, beyond what is written.
    assert_eq!(refused(|left| left.records[2].args = Args::at(0)), (Field::VmArgs, 0));
    assert_eq!(refused(|left| left.records[0].args = Args::at(2)), (Field::VmArgs, 2));
    assert_eq!(refused(|left| left.records[1].args = Args::at(3)), (Field::VmArgs, 3));
    assert_eq!(refused(|left| left.records[2].args = Args::EMPTY), (Field::VmArgs, 2));
    // In a circle, into somebody else's, past the end.
    assert_eq!(refused(|left| left.cells[1].next = 0), (Field::VmArgs, 0));
    assert_eq!(refused(|left| left.cells[0].next = 2), (Field::VmArgs, 2));
    assert_eq!(refused(|left| left.cells[1].next = 2), (Field::VmArgs, 2));
    assert_eq!(refused(|left| left.cells[2].next = 3), (Field::VmArgs, 3));
    assert_eq!(refused(|left| left.record.vms.written_cells = 2), (Field::VmArgs, 2));
    assert_eq!(refused(|left| left.record.vms.written_cells = 4), (Field::VmArgs, 3));
    assert_eq!(refused(|left| left.cells[1].len = 0), (Field::VmArgs, 1));
    assert_eq!(refused(|left| left.cells[0].len = 60), (Field::VmArgs, 0));
}
