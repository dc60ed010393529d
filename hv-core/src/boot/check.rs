//! Whether a boot record can be believed, as far as that is cheap to see. Pure. Whoever made the record says what is wrong in words;
//! here a field and a value will do.

pub(super) use super::field::ensure;
pub use super::field::{Checked, Field, Refused};
use super::shape::{check_layout, is_image};
use crate::memory::frames::Entry;
use abi::barriers::BarrierPlan;
use abi::boot::screen::{self, Glyph};
use abi::boot::{
    BootRecord, CORE_ALIGN, Component, DIRECT_MAP_BYTES, Extent, MAGIC, MMIO_WINDOW, MMIO_WINDOW_END, NONE, Program,
    Range, VERSION, Vms, features, owner, program, segment,
};
use abi::component::layout;
use abi::guest;
use abi::limits::{MAX_RINGS_PER_COMPONENT, MAX_SEATS, MAX_SLOTS, PAGE_SIZE};
use abi::manifest::{ANY, CORE};
use abi::record::{self, Cell, Record};
use abi::sched::Admission;
use abi::service::Service;

/// What the core knows by itself.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// [`abi::boot::backend`] that it was built for.
    pub backend: u32,
    /// Bytes of its own image.
    pub core_bytes: u64,
    /// Physical address at which it found the record.
    pub at: u64,
}

/// Checks a record.
///
/// # Errors
/// The first field that is wrong.
pub fn check(record: &BootRecord, given: &Given) -> Checked {
    ensure(record.magic == MAGIC, Field::Magic, record.magic)?;
    ensure(record.version == VERSION, Field::Version, record.version)?;
    ensure(record.bytes == BootRecord::BYTES, Field::Bytes, record.bytes)?;
    ensure(record.backend == given.backend, Field::Backend, record.backend)?;
    ensure(record.features & !features::ALL == 0, Field::Features, record.features)?;
    check_barriers(&record.barriers)?;
    check_counts(record)?;
    let frames = record.frame_table.bytes / size_of::<Entry>() as u64;
    check_ranges(record, frames)?;
    check_places(record, given)?;
    check_board(record)?;
    check_rings(record)?;
    for component in record.components() {
        check_component(record, component)?;
    }
    for (number, image) in (0..).zip(record.images()) {
        check_image(record, number, image)?;
    }
    for told in record.tenants() {
        ensure(told.tenant().is_some(), Field::Tenant, told.tenant)?;
    }
    check_options(record)
}

/// Sets that a loader can have made: what is no barrier, or none of its place, would be an MSR that the processor does not have.
fn check_barriers(plan: &BarrierPlan) -> Checked {
    let sets = [plan.exit, plan.tenant, plan.entry, plan.component];
    let value = sets.into_iter().fold(u64::from(plan.mode), |all, set| all << 8 | u64::from(set.raw() & 0xff));
    ensure(plan.is_valid(), Field::Barriers, value)
}

fn check_counts(record: &BootRecord) -> Checked {
    for (count, most) in [
        (record.io_apic_count, record.io_apics.len()),
        (record.override_count, record.overrides.len()),
        (record.pci_count, record.pci.len()),
        (record.range_count, record.ranges.len()),
        (record.component_count, record.components.len()),
        (record.ring_count, record.rings.len()),
        (record.image_count, record.images.len()),
        (record.tenant_count, record.tenants.len()),
    ] {
        ensure(count as usize <= most, Field::Count, count)?;
    }
    Ok(())
}

/// Ranges in order, without overlaps, of owners that there are, and as many free frames as is said.
fn check_ranges(record: &BootRecord, frames: u64) -> Checked {
    let (mut last, mut free) = (0, 0);
    for &Range { start, end, owner, id } in record.ranges() {
        let whole = (start | end).is_multiple_of(PAGE_SIZE);
        ensure(whole && start < end && end / PAGE_SIZE <= frames, Field::RangeBounds, start)?;
        ensure(start >= last, Field::RangeOrder, start)?;
        let good = match owner {
            owner::GOLDEN => id < record.image_count,
            owner::FREE | owner::CORE | owner::MODULE | owner::LOADER => id == 0,
            _ => false,
        };
        ensure(good, Field::RangeOwner, u64::from(id) << 32 | u64::from(owner))?;
        last = end;
        if owner == owner::FREE {
            free += (end - start) / PAGE_SIZE;
        }
    }
    ensure(free == record.free_frames, Field::FreeFrames, record.free_frames)
}

/// Whether the pages from `start` on are in one range of this owner.
fn is_owned(record: &BootRecord, start: u64, bytes: u64, owner: u32, id: u32) -> bool {
    let Some(end) = start.checked_add(bytes) else { return false };
    let holds = |range: &Range| (range.owner, range.id) == (owner, id) && range.start <= start && end <= range.end;
    bytes != 0 && record.ranges().iter().any(holds)
}

fn check_places(record: &BootRecord, given: &Given) -> Checked {
    let own = |extent: Extent, owner: u32| {
        extent.start.is_multiple_of(PAGE_SIZE) && is_owned(record, extent.start, extent.bytes, owner, 0)
    };
    let Extent { start, bytes } = record.own;
    let holds_all = bytes >= u64::from(BootRecord::BYTES);
    ensure(start == given.at && holds_all && own(record.own, owner::LOADER), Field::Own, start)?;
    let Extent { start, bytes } = record.core;
    let mine = start.is_multiple_of(CORE_ALIGN) && bytes == given.core_bytes;
    ensure(mine && own(record.core, owner::CORE), Field::Core, start)?;
    ensure(own(Extent { start: record.root, bytes: PAGE_SIZE }, owner::CORE), Field::Root, record.root)?;
    let Extent { start, bytes } = record.frame_table;
    let shown = bytes.is_multiple_of(size_of::<Entry>() as u64) && bytes / 8 <= DIRECT_MAP_BYTES / PAGE_SIZE;
    ensure(shown && own(record.frame_table, owner::CORE), Field::FrameTable, start)?;
    let Extent { start, bytes } = record.glyphs;
    let holds_all = bytes >= (screen::GLYPHS * size_of::<Glyph>()) as u64;
    ensure(holds_all && own(record.glyphs, owner::CORE), Field::Glyphs, start)?;
    check_vms(record, own)?;
    let root = Extent { start: record.root, bytes: PAGE_SIZE };
    let (vms, cells) = (record.vms.records, record.vms.cells);
    let places = [record.own, record.core, record.frame_table, record.glyphs, root, vms, cells];
    for (i, one) in places.iter().enumerate() {
        let meets = |other: &&Extent| one.start < other.start + other.bytes && other.start < one.start + one.bytes;
        ensure(!places[..i].iter().any(|other| meets(&other)), Field::Core, one.start)?;
    }
    Ok(())
}

/// The tables of VMs by what the record says of them.
fn check_vms(record: &BootRecord, own: impl Fn(Extent, u32) -> bool) -> Checked {
    let Vms { records, cells, slots, seats, written, written_cells } = record.vms;
    let counts =
        (1..=MAX_SLOTS).contains(&(slots as usize)) && (1..=MAX_SEATS.min(slots as usize)).contains(&(seats as usize));
    ensure(counts, Field::VmCounts, u64::from(seats) << 32 | u64::from(slots))?;
    ensure(written <= slots, Field::VmCounts, written)?;
    let room = u64::from(slots) * size_of::<Record>() as u64;
    ensure(records.bytes >= room && own(records, owner::CORE), Field::VmRecords, records.start)?;
    let count = cells.bytes / size_of::<Cell>() as u64;
    let enough = (slots.max(written_cells).into()..u64::from(record::NONE)).contains(&count);
    ensure(enough && own(cells, owner::CORE), Field::VmCells, cells.start)
}

/// Whether device registers are mapped there.
fn is_mmio(at: u64, bytes: u64) -> bool {
    (MMIO_WINDOW..MMIO_WINDOW_END).contains(&at) && bytes <= MMIO_WINDOW_END - at && at.is_multiple_of(4)
}

fn check_board(record: &BootRecord) -> Checked {
    ensure(record.tsc_hz >= 1_000_000, Field::TscHz, record.tsc_hz)?;
    let registers = record.local_apic;
    let is_right = if record.features & features::X2APIC != 0 { registers == 0 } else { is_mmio(registers, PAGE_SIZE) };
    ensure(is_right, Field::LocalApic, registers)?;
    for io_apic in record.io_apics() {
        ensure(is_mmio(io_apic.registers, 32), Field::IoApic, io_apic.registers)?;
    }
    for device in record.pci() {
        let (table, entries) = (device.msix_table, u64::from(device.msix_entries));
        ensure((table == 0 && entries == 0) || is_mmio(table, 16 * entries) && entries <= 2048, Field::Msix, table)?;
        ensure(device.bar_count as usize <= device.bars.len(), Field::Count, device.bar_count)?;
        for bar in device.bars() {
            let end = bar.address.checked_add(bar.bytes);
            // Whoever is given registers must not be given memory.
            let memory = |end: u64| record.ranges().iter().any(|range| bar.address < range.end && range.start < end);
            let apart = end.is_some_and(|end| bar.io != 0 || !memory(end));
            ensure(bar.io <= 1 && bar.alone <= 1 && bar.bytes.is_power_of_two() && apart, Field::Bar, bar.address)?;
        }
    }
    let screen = &record.screen;
    let pixels = u64::from(screen.pitch) * u64::from(screen.height);
    let good = match screen.kind {
        screen::NONE | screen::TEXT => true,
        screen::PIXELS => is_mmio(screen.pixels, pixels),
        _ => false,
    };
    ensure(good, Field::Screen, screen.kind)?;
    ensure(record.said.bytes as usize <= record.said.text.len(), Field::Said, record.said.bytes)
}

fn check_rings(record: &BootRecord) -> Checked {
    for ring in record.rings() {
        let known = |end: u32| end == CORE || end < record.component_count;
        let ends = known(ring.producer) && known(ring.consumer) && ring.producer != ring.consumer;
        let slots = ring.slots.is_power_of_two() && ring.slots <= abi::ring::MAX_SLOTS;
        let fits = slots && ring.bytes() <= layout::RING_STRIDE;
        let with_core = ring.producer == CORE || ring.consumer == CORE;
        let fits = fits && !(with_core && ring.data_pages != 0);
        let about = if with_core { Service::from_raw(ring.service).is_some() } else { ring.service == Service::NONE };
        ensure(ends && fits && about, Field::Ring, ring.slots)?;
    }
    Ok(())
}

fn check_component(record: &BootRecord, component: &Component) -> Checked {
    let entry = &component.entry;
    let number = record.components().iter().position(|other| core::ptr::eq(other, component)).unwrap_or(0);
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let same = record.components().iter().filter(|other| other.entry.priority == entry.priority).count();
    let ends = record.rings().iter().filter(|ring| ring.producer == number || ring.consumer == number).count();
    let pages = |pages: u32| u64::from(pages) * PAGE_SIZE;
    let stack = pages(entry.stack_pages);
    let fits = stack > 0
        && stack <= layout::STACK_TOP - layout::INFO - 2 * PAGE_SIZE
        && pages(entry.memory_pages) <= layout::IMAGE_END - layout::IMAGE_BASE
        && pages(entry.dma_pages) <= layout::VM_WINDOW - layout::DMA
        && pages(entry.keep_pages) <= layout::KEEP_END - layout::KEEP
        && u32::from(entry.port_first) + u32::from(entry.port_count) <= 1 << 16
        && (entry.pci_class == NONE || entry.pci_class <= 0xffff)
        && (entry.port_irq == NONE || entry.port_irq < 16);
    ensure(same == 1 && ends <= MAX_RINGS_PER_COMPONENT && fits && entry.budget_us > 0, Field::Component, number)?;
    let policies = component.programs.get(..entry.policy_count as usize).unwrap_or(&[]);
    let chosen = policies.get(component.chosen as usize).is_some_and(|program| program.state == program::GOOD);
    ensure(chosen, Field::Policy, component.chosen)?;
    let end = layout::IMAGE_BASE + pages(entry.memory_pages);
    for policy in policies {
        check_program(record, policy, layout::IMAGE_BASE, end, None)?;
    }
    Ok(())
}

fn check_image(record: &BootRecord, number: u32, image: &abi::boot::Image) -> Checked {
    let entry = &image.entry;
    let served = [entry.net, entry.pager].iter().all(|&by| by == ANY || u32::from(by) < record.component_count);
    ensure(served && is_image(entry), Field::Image, number)?;
    check_program(record, &image.program, guest::IMAGE_BASE, entry.memory_bytes, Some(number))
}

/// A program between two addresses: a component's, or that of the guest image of this number.
fn check_program(record: &BootRecord, program: &Program, low: u64, high: u64, image: Option<u32>) -> Checked {
    ensure(program.state <= program::REFUSED, Field::Policy, program.state)?;
    if program.state != program::GOOD {
        return Ok(());
    }
    check_layout(program, low, high, image.is_some())?;
    for part in program.segments() {
        // What a component only reads is mapped whole from where it lies.
        let whole =
            image.is_some() || part.flags & segment::WRITE != 0 || part.bytes == u64::from(part.pages) * PAGE_SIZE;
        let used = part.bytes.checked_next_multiple_of(PAGE_SIZE);
        let lies = part.pristine.is_multiple_of(PAGE_SIZE)
            && (part.bytes == 0 || used.is_some_and(|used| is_owned(record, part.pristine, used, owner::MODULE, 0)));
        let tail = match image {
            Some(number) if !part.bytes.is_multiple_of(PAGE_SIZE) => {
                part.tail.is_multiple_of(PAGE_SIZE) && is_owned(record, part.tail, PAGE_SIZE, owner::GOLDEN, number)
            }
            _ => part.tail == 0,
        };
        ensure(whole && lies && tail, Field::SegmentOwner, part.pristine)?;
    }
    Ok(())
}

fn check_options(record: &BootRecord) -> Checked {
    let options = &record.options;
    let hooks = cfg!(feature = "selftest") && options.selftest <= 2;
    ensure(options.selftest == 0 || hooks, Field::SelfTest, options.selftest)?;
    let known = Admission::of(options.gatekeeper).is_some()
        && options.log <= 5
        && options.power_off <= 1
        && options.prefix <= 30;
    let quantum = (1..=1_000_000_000_000).contains(&options.quantum_ns);
    ensure(known && quantum, Field::Options, options.quantum_ns)
}
