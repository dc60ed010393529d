//! The tables of VMs as the loader leaves them: room for all records and boot arguments, and in the first of them the VMs of `vms=`.
//! The kernel finds them there when the check has found them good.

use super::check::{Checked, Field, ensure};
use crate::memory::PhysAddr;
use crate::memory::phys::index;
use crate::vm::Written;
use abi::boot::{BootRecord, Extent, Vms, program};
use abi::guest::BOOT_ARGS_MAX;
use abi::record::{Cell, NONE, PIECE_BYTES, Record};
use abi::terms::Terms;
use zerocopy::FromBytes;

/// The tables of VMs.
pub struct VmTables {
    /// One for each slot.
    pub records: &'static mut [Record],
    /// Their boot arguments, in pieces.
    pub cells: &'static mut [Cell],
    /// How many of both are written.
    pub written: Written,
    /// VMs that can be admitted at the same time.
    pub seats: usize,
}

/// The tables where the record says that they are.
///
/// # Safety
/// The record was checked, the direct map shows both places, and nobody else uses them for good.
pub unsafe fn take(record: &BootRecord) -> VmTables {
    let Vms { records, cells, slots, seats, written, written_cells } = record.vms;
    VmTables {
        // SAFETY: by this function's contract, as for the cells; the check has found room for as many.
        records: unsafe { table(records, slots as usize) },
        // SAFETY: as many as its place holds.
        cells: unsafe { table(cells, index(cells.bytes) / size_of::<Cell>()) },
        written: Written { slots: written, cells: written_cells },
        seats: seats as usize,
    }
}

/// # Safety
/// The direct map shows the place, which is page-aligned and holds as many, and nobody else uses it for good.
unsafe fn table<T: FromBytes>(place: Extent, count: usize) -> &'static mut [T] {
    // SAFETY: by this function's contract; every byte pattern is a `T`, and a page's alignment suits it.
    unsafe { core::slice::from_raw_parts_mut(PhysAddr::new(place.start).as_ptr(), count) }
}

/// Whether the VMs that are written can be believed: of images that can run, in a state in which nobody has seen them, each with
/// arguments that end, are not too long, and are nobody else's. At boot only: it looks at each of them.
///
/// # Errors
/// The first field that is wrong. For a record, the value is its slot; for arguments, the cell.
pub fn check(record: &BootRecord, records: &[Record], cells: &[Cell]) -> Checked {
    let Vms { written, written_cells, .. } = record.vms;
    let cells = cells.get(..written_cells as usize).unwrap_or(&[]);
    let mut next = 0;
    for (slot, vm) in (0..written).zip(records) {
        let &Record { generation, image, share, claim, disk, args, .. } = vm;
        let terms = Terms { share, claim, tenant: vm.tenant(), disk };
        // What is not looked at below is as nobody has touched it.
        let fresh = generation != 0 && *vm == Record { generation, ..Record::written(image, terms, vm.ipv4, args) };
        ensure(fresh && share.is_valid() && claim.is_valid() && disk.is_valid(), Field::VmRecord, slot)?;
        let of = record.images().get(image.index()).filter(|image| image.program.state == program::GOOD);
        ensure(of.is_some(), Field::VmImage, image.number())?;
        // Boot asks for no VM in the name of another tenant than its image's.
        ensure(of.is_some_and(|image| image.entry.tenant == vm.tenant), Field::VmRecord, slot)?;
        // One that starts with the first packet for it can be sent one.
        ensure(vm.ipv4 != 0 || !of.is_some_and(|image| image.entry.starts_lazily()), Field::VmRecord, slot)?;
        if args.first() != NONE {
            ensure(args.first() == next, Field::VmArgs, args.first())?;
            next = check_args(cells, next)?;
        }
    }
    ensure(next == written_cells, Field::VmArgs, next)
}

/// Whether somebody's arguments begin in a cell, fill the cells behind it and end. The cell behind them.
fn check_args(cells: &[Cell], first: u32) -> Result<u32, super::check::Refused> {
    let (mut at, mut bytes) = (first, 0);
    loop {
        let cell = cells.get(at as usize);
        let &Cell { next, len, .. } = cell.unwrap_or(&Cell::EMPTY);
        bytes += usize::from(len);
        ensure((1..=PIECE_BYTES).contains(&len.into()) && bytes <= BOOT_ARGS_MAX, Field::VmArgs, at)?;
        at += 1;
        if next == NONE {
            return Ok(at);
        }
        ensure(next == at, Field::VmArgs, next)?;
    }
}

#[cfg(test)]
#[path = "vms_test.rs"]
mod tests;
