//! Whether an image or a program can be, whoever says so: the loader in its record, or a controller that sends one. Pure.

use super::field::{Checked, Field, ensure};
use abi::boot::{Program, Segment, segment};
use abi::claim::RESERVE_LEAST;
use abi::guest;
use abi::limits::{PAGE_SIZE, VM_MEMORY_MAX, VM_MEMORY_MIN};
use abi::manifest::Image;
use abi::tenant::Tenant;

/// Whether VMs could be like this. Who serves them is not looked at.
pub fn is_image(entry: &Image) -> bool {
    let (rx, tx) = (entry.rx_slots, entry.tx_slots);
    let none = rx == 0 && tx == 0;
    let slots = rx.is_power_of_two() && tx.is_power_of_two() && rx.saturating_add(tx) <= abi::nic::MAX_SLOTS_TOTAL;
    let room = abi::nic::WINDOW_STRIDE.min(guest::IMAGE_BASE - guest::NIC_BASE);
    let nic = none || slots && abi::nic::nic_pages(rx, tx) * PAGE_SIZE <= room;
    let memory =
        (VM_MEMORY_MIN..=VM_MEMORY_MAX).contains(&entry.memory_bytes) && entry.memory_bytes.is_multiple_of(PAGE_SIZE);
    let reserve = (RESERVE_LEAST..=entry.limit_frames).contains(&entry.reserve_frames);
    let tenant = Tenant::from_raw(entry.tenant).is_some() && entry.reserved == 0 && entry.reserved2 == 0;
    nic && memory && reserve && entry.has_good_flags() && tenant && entry.disk.is_valid() && entry.share().is_valid()
}

/// Whether a program can lie between two addresses: its segments within them, apart from each other, none writable and executable, each
/// with no more bytes than pages; and its first instruction in one that is executable. Only a guest has holes.
///
/// # Errors
/// The first field that is wrong, and its value.
pub fn check_layout(program: &Program, low: u64, high: u64, guest: bool) -> Checked {
    ensure(program.segment_count as usize <= program.segments.len(), Field::Count, program.segment_count)?;
    let mut starts = false;
    for (i, part) in program.segments().iter().enumerate() {
        let bytes = u64::from(part.pages) * PAGE_SIZE;
        let inside = part.address >= low && part.address <= high && bytes <= high - part.address;
        ensure(inside && bytes != 0 && part.address.is_multiple_of(PAGE_SIZE), Field::Segment, part.address)?;
        let (write, execute) = (part.flags & segment::WRITE != 0, part.flags & segment::EXECUTE != 0);
        let hole = part.flags & segment::HOLE != 0;
        let known = part.flags & !(segment::WRITE | segment::EXECUTE | segment::HOLE) == 0;
        let access = known && !(write && execute) && !(hole && (write || execute || part.bytes != 0 || !guest));
        ensure(access, Field::SegmentAccess, part.flags)?;
        let end = part.address + bytes;
        let meets =
            |other: &&Segment| part.address < other.address + u64::from(other.pages) * PAGE_SIZE && other.address < end;
        ensure(!program.segments[..i].iter().any(|other| meets(&other)), Field::SegmentOverlap, part.address)?;
        ensure(part.bytes <= bytes, Field::SegmentOwner, part.pristine)?;
        starts |= execute && (part.address..end).contains(&program.entry);
    }
    ensure(starts, Field::Entry, program.entry)
}
