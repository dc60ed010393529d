use super::check::{Field, Given, Refused, check};
use abi::barriers::{BarrierPlan, Barriers, Exposures};
use abi::boot::{
    self, BootRecord, CORE_ALIGN, Extent, MMIO_WINDOW, MMIO_WINDOW_END, NONE, Options, Range, Vms, backend, features,
    owner, program, screen, segment,
};
use abi::claim::RESERVE_LEAST;
use abi::component::layout;
use abi::guest::IMAGE_BASE;
use abi::limits::{MAX_RINGS_PER_COMPONENT, MAX_SEATS, MAX_SLOTS, Name, PAGE_SIZE};
use abi::manifest::{ANY, CORE, image_flags};
use abi::service::Service;
use zerocopy::{FromBytes, IntoBytes};

const MIB: u64 = 1 << 20;
const GIVEN: Given = Given { backend: backend::VMX, core_bytes: MIB, at: 8 * MIB };

/// Pages of the largest stack: one page above the information page and one below the end stay free.
fn stack_pages() -> u32 {
    pages(layout::STACK_TOP - layout::INFO) - 2
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE_SIZE).expect("few")
}

const fn range(start: u64, end: u64, owner: u32) -> Range {
    Range { start, end, owner, id: 0 }
}

fn segment(address: u64, flags: u32, pages: u32, pristine: u64, bytes: u64, tail: u64) -> boot::Segment {
    boot::Segment { address, pristine, bytes, tail, pages, flags }
}

/// A record of a small machine: 64 MiB, a component with two policies of which one cannot run, an image.
pub fn good() -> &'static mut BootRecord {
    let words = vec![0_u64; size_of::<BootRecord>() / 8].leak();
    let record = BootRecord::mut_from_bytes(words.as_mut_bytes()).expect("the right size");
    (record.magic, record.version, record.bytes) = (boot::MAGIC, boot::VERSION, BootRecord::BYTES);
    (record.backend, record.features) = (backend::VMX, features::X2APIC | features::XSAVE);
    let extent = |start, bytes| Extent { start, bytes };
    record.own = extent(8 * MIB, MIB);
    record.core = extent(2 * CORE_ALIGN, MIB);
    record.root = 5 * MIB;
    record.frame_table = extent(6 * MIB, 64 * MIB / PAGE_SIZE * 8);
    record.glyphs = extent(5 * MIB + PAGE_SIZE, 4 * PAGE_SIZE);
    record.tsc_hz = 1_000_000_000;
    let ranges = [
        (MIB, 2 * MIB, owner::MODULE, 0),
        (2 * MIB, 4 * MIB, owner::FREE, 0),
        (4 * MIB, 7 * MIB, owner::CORE, 0),
        (7 * MIB, 7 * MIB + PAGE_SIZE, owner::GOLDEN, 0),
        (8 * MIB, 9 * MIB, owner::LOADER, 0),
        (16 * MIB, 64 * MIB, owner::FREE, 0),
    ];
    for (to, (start, end, owner, id)) in record.ranges.iter_mut().zip(ranges) {
        *to = Range { start, end, owner, id };
        record.range_count += 1;
    }
    record.free_frames = 50 * MIB / PAGE_SIZE;
    record.io_apics[0] = boot::IoApic { registers: MMIO_WINDOW, gsi_base: 0, reserved: 0 };
    record.io_apic_count = 1;
    let bar = boot::Bar { address: 0xfeb0_0000, bytes: 0x2_0000, ..boot::Bar::default() };
    record.pci[0] = boot::PciDevice { bar_count: 1, bars: [bar; 6], ..boot::PciDevice::default() };
    record.pci_count = 1;
    let name = Name::new("pager").expect("short");
    let ring = |producer, consumer| abi::manifest::Ring {
        name,
        producer,
        consumer,
        slots: 64,
        service: Service::Pager.raw(),
        data_pages: 0,
        reserved: 0,
    };
    (record.rings[0], record.rings[1], record.ring_count) = (ring(CORE, 0), ring(0, CORE), 2);
    let component = &mut record.components[0];
    component.entry.policy_count = 2;
    (component.entry.budget_us, component.entry.stack_pages, component.entry.memory_pages) = (1000, 2, 8);
    (component.entry.pci_class, component.entry.port_irq) = (NONE, NONE);
    let policy = &mut component.programs[0];
    (policy.entry, policy.segment_count) = (layout::IMAGE_BASE + 16, 2);
    policy.segments[0] = segment(layout::IMAGE_BASE, segment::EXECUTE, 2, MIB, 2 * PAGE_SIZE, 0);
    policy.segments[1] = segment(layout::IMAGE_BASE + 2 * PAGE_SIZE, segment::WRITE, 3, MIB + 2 * PAGE_SIZE, 100, 0);
    component.programs[1].state = program::REFUSED;
    record.component_count = 1;
    let image = &mut record.images[0];
    image.entry.memory_bytes = 16 * MIB;
    (image.entry.reserve_frames, image.entry.limit_frames) = (RESERVE_LEAST, 4096);
    (image.entry.net, image.entry.pager) = (ANY, 0);
    (image.entry.rate, image.entry.burst, image.entry.weight) =
        (abi::share::UNLIMITED, abi::share::BURST, abi::share::WEIGHT);
    let guest = &mut image.program;
    (guest.entry, guest.segment_count) = (IMAGE_BASE, 3);
    guest.segments[0] = segment(IMAGE_BASE, segment::EXECUTE, 1, MIB + 8 * PAGE_SIZE, PAGE_SIZE, 0);
    guest.segments[1] = segment(IMAGE_BASE + PAGE_SIZE, segment::WRITE, 4, MIB + 9 * PAGE_SIZE, 5000, 7 * MIB);
    guest.segments[2] = segment(IMAGE_BASE + 16 * PAGE_SIZE, segment::HOLE, 1, 0, 0, 0);
    record.image_count = 1;
    record.options = Options::default();
    let (records, cells) =
        (extent(5 * MIB + 8 * PAGE_SIZE, 5 * PAGE_SIZE), extent(5 * MIB + 16 * PAGE_SIZE, 3 * PAGE_SIZE));
    record.vms = Vms { records, cells, slots: 100, seats: 40, written: 0, written_cells: 0 };
    record
}

/// What a record is refused for after `lie` has changed it.
#[track_caller]
fn refused(lie: impl FnOnce(&mut BootRecord)) -> (Field, u64) {
    let record = good();
    lie(record);
    let Err(Refused { field, value }) = check(record, &GIVEN) else { panic!("it is believed") };
    (field, value)
}

#[test]
fn a_good_record_is_believed() {
    assert_eq!(check(good(), &GIVEN), Ok(()));
    let record = good();
    (record.features, record.local_apic) = (0, MMIO_WINDOW + 0x2000);
    (record.screen.kind, record.screen.pitch, record.screen.height) = (screen::PIXELS, 4096, 768);
    record.screen.pixels = MMIO_WINDOW + 0x10_0000;
    (record.pci[0].msix_table, record.pci[0].msix_entries) = (MMIO_WINDOW + 0x4000, 3);
    assert_eq!(check(record, &GIVEN), Ok(()));
}

/// Each at the edge of what is allowed.
#[test]
fn what_is_just_right_is_believed() {
    let all: [fn(&mut BootRecord); 11] = [
        // The page tables' root right behind the glyphs, registers right before memory and right behind it.
        |record| record.root = record.glyphs.start + record.glyphs.bytes,
        |record| record.pci[0].bars[0].address = 16 * MIB - record.pci[0].bars[0].bytes,
        |record| record.pci[0].bars[0].address = 64 * MIB,
        |record| record.features |= features::AMD_BANKS,
        // A frame table that covers all that the direct map can.
        |record| record.ranges[6] = range(64 << 30, 65 << 30, owner::CORE),
        |record| record.rings[0].slots = 64,
        |record| record.components[0].entry.stack_pages = stack_pages(),
        |record| record.components[0].entry.memory_pages = pages(layout::IMAGE_END - layout::IMAGE_BASE),
        |record| record.components[0].entry.dma_pages = pages(layout::VM_WINDOW - layout::DMA),
        |record| record.components[0].entry.keep_pages = pages(layout::KEEP_END - layout::KEEP),
        |record| {
            let entry = &mut record.components[0].entry;
            (entry.port_first, entry.port_count) = (0xffff, 1);
        },
    ];
    for (number, change) in all.into_iter().enumerate() {
        let record = good();
        change(record);
        if number == 4 {
            (record.range_count, record.frame_table) = (7, Extent { start: 64 << 30, bytes: 1 << 30 });
        }
        assert_eq!(check(record, &GIVEN), Ok(()), "{number}");
    }
    let entry = |change: fn(&mut abi::manifest::Component)| {
        let record = good();
        change(&mut record.components[0].entry);
        check(record, &GIVEN)
    };
    assert_eq!(entry(|entry| (entry.port_first, entry.port_count) = (0x300, 0x200)), Ok(()));
    assert_eq!(entry(|entry| (entry.pci_class, entry.port_irq) = (0xffff, 15)), Ok(()));
    let image = |change: fn(&mut abi::manifest::Image)| {
        let record = good();
        change(&mut record.images[0].entry);
        check(record, &GIVEN)
    };
    assert_eq!(image(|entry| (entry.rx_slots, entry.tx_slots) = (512, 256)), Ok(()));
    assert_eq!(image(|entry| entry.flags = image_flags::CONTROL), Ok(()));
    assert_eq!(image(|entry| entry.flags = image_flags::CONTROL | image_flags::READS_DISKS), Ok(()));
}

/// Segments in any order, one right behind another.
#[test]
fn the_order_of_segments_says_nothing() {
    let record = good();
    record.components[0].programs[0].segments.swap(0, 1);
    record.images[0].program.segments.swap(0, 1);
    assert_eq!(check(record, &GIVEN), Ok(()));
}

#[test]
fn another_makers_record_is_refused() {
    assert_eq!(refused(|record| record.magic += 1), (Field::Magic, boot::MAGIC + 1));
    assert_eq!(refused(|record| record.version = 77), (Field::Version, 77));
    assert_eq!(refused(|record| record.bytes = 5), (Field::Bytes, 5));
    assert_eq!(refused(|record| record.backend = backend::SVM), (Field::Backend, 2));
    assert_eq!(refused(|record| record.features = 1 << 31), (Field::Features, 1 << 31));
}

#[test]
fn barriers_are_those_that_a_loader_can_have_made() {
    let record = good();
    record.barriers = BarrierPlan { exit: Barriers::IBPB, tenant: Barriers::L1D, ..BarrierPlan::default() };
    assert_eq!(check(record, &GIVEN), Ok(()));
    type Lie = (fn(&mut BarrierPlan), u64);
    let all: [Lie; 5] = [
        (|plan| plan.mode = 3, 3 << 32),
        (|plan| plan.exit = Barriers::VERW, 32 << 24),
        (|plan| plan.component = Barriers::from_raw(1 << 7), 128),
        (|plan| plan.open = Exposures::L1TF, 0),
        (|plan| plan.setup = u32::MAX, 0),
    ];
    for (lie, value) in all {
        assert_eq!(refused(|record| lie(&mut record.barriers)), (Field::Barriers, value));
    }
}

#[test]
fn quotas_are_those_of_tenants_with_names() {
    for tenant in [0, 38, u32::MAX] {
        let lie = |record: &mut BootRecord| {
            record.tenant_count = 1;
            record.tenants[0].tenant = tenant;
        };
        assert_eq!(refused(lie), (Field::Tenant, tenant.into()));
    }
    assert_eq!(refused(|record| record.tenant_count = 65).0, Field::Count);
    let record = good();
    record.tenant_count = 1;
    record.tenants[0].tenant = 1;
    assert_eq!(check(record, &GIVEN), Ok(()));
}

#[test]
fn a_tenant_has_a_name() {
    for lie in [
        |record: &mut BootRecord| record.images[0].entry.tenant = 38,
        |record: &mut BootRecord| record.images[0].entry.reserved = 1,
    ] {
        assert_eq!(refused(lie), (Field::Image, 0));
    }
    let record = good();
    record.images[0].entry.tenant = abi::tenant::Tenant::new("blue").expect("a name").raw();
    assert_eq!(check(record, &GIVEN), Ok(()));
}

#[test]
fn counts_beyond_the_room_are_refused() {
    let all: [fn(&mut BootRecord); 8] = [
        |record| record.io_apic_count = 5,
        |record| record.override_count = 17,
        |record| record.pci_count = 33,
        |record| record.range_count = 321,
        |record| record.component_count = 9,
        |record| record.ring_count = 25,
        |record| record.image_count = 17,
        |record| record.images[0].program.segment_count = 9,
    ];
    for lie in all {
        assert_eq!(refused(lie).0, Field::Count);
    }
    assert_eq!(refused(|record| record.pci[0].bar_count = 7), (Field::Count, 7));
}

#[test]
fn ranges_must_be_what_memory_can_be() {
    assert_eq!(refused(|record| record.ranges[0].start += 8), (Field::RangeBounds, MIB + 8));
    assert_eq!(refused(|record| record.ranges[0].end = MIB), (Field::RangeBounds, MIB));
    let shifted = |record: &mut BootRecord| record.ranges[0] = range(MIB + 8, 2 * MIB + 8, owner::MODULE);
    assert_eq!(refused(shifted), (Field::RangeBounds, MIB + 8));
    assert_eq!(refused(|record| record.ranges[5].end = 64 * MIB + PAGE_SIZE), (Field::RangeBounds, 16 * MIB));
    assert_eq!(refused(|record| record.ranges[1].start -= PAGE_SIZE), (Field::RangeOrder, 2 * MIB - PAGE_SIZE));
    assert_eq!(refused(|record| record.ranges.swap(0, 1)), (Field::RangeOrder, MIB));
    assert_eq!(refused(|record| record.ranges[0].owner = 5), (Field::RangeOwner, 5));
    assert_eq!(refused(|record| record.ranges[0].id = 1), (Field::RangeOwner, 1 << 32 | u64::from(owner::MODULE)));
    assert_eq!(refused(|record| record.ranges[3].id = 1).0, Field::RangeOwner);
}

#[test]
fn totals_must_be_right() {
    assert_eq!(refused(|record| record.free_frames += 1), (Field::FreeFrames, 50 * MIB / PAGE_SIZE + 1));
    assert_eq!(refused(|record| record.ranges[5].owner = owner::CORE).0, Field::FreeFrames);
}

#[test]
fn what_the_core_uses_is_the_cores() {
    assert_eq!(refused(|record| record.own.start = 16 * MIB), (Field::Own, 16 * MIB));
    assert_eq!(refused(|record| record.own.bytes = PAGE_SIZE).0, Field::Own);
    assert_eq!(refused(|record| record.own.bytes = 2 * MIB).0, Field::Own);
    assert_eq!(refused(|record| record.ranges[4].owner = owner::MODULE).0, Field::Own);
    assert_eq!(refused(|record| record.core.start += PAGE_SIZE), (Field::Core, 2 * CORE_ALIGN + PAGE_SIZE));
    assert_eq!(refused(|record| record.core.bytes -= PAGE_SIZE).0, Field::Core);
    assert_eq!(refused(|record| record.core.start = 20 * MIB).0, Field::Core);
    assert_eq!(refused(|record| record.root += 8), (Field::Root, 5 * MIB + 8));
    assert_eq!(refused(|record| record.root = 16 * MIB), (Field::Root, 16 * MIB));
    assert_eq!(refused(|record| record.frame_table.start = 16 * MIB), (Field::FrameTable, 16 * MIB));
    assert_eq!(refused(|record| record.frame_table.bytes += 4), (Field::FrameTable, 6 * MIB));
    let beyond_the_direct_map = |record: &mut BootRecord| {
        record.ranges[6] = range(64 << 30, (65 << 30) + PAGE_SIZE, owner::CORE);
        (record.range_count, record.frame_table) = (7, Extent { start: 64 << 30, bytes: (1 << 30) + PAGE_SIZE });
    };
    assert_eq!(refused(beyond_the_direct_map), (Field::FrameTable, 64 << 30));
    assert_eq!(refused(|record| record.glyphs.bytes = PAGE_SIZE).0, Field::Glyphs);
    assert_eq!(refused(|record| record.glyphs.start = MIB), (Field::Glyphs, MIB));
    // Two things in one place.
    assert_eq!(refused(|record| record.root = 6 * MIB).0, Field::Core);
    assert_eq!(refused(|record| record.glyphs.start = record.core.start).0, Field::Core);
}

#[test]
fn a_board_that_cannot_be_is_refused() {
    assert_eq!(refused(|record| record.tsc_hz = 999), (Field::TscHz, 999));
    assert_eq!(refused(|record| record.local_apic = MMIO_WINDOW), (Field::LocalApic, MMIO_WINDOW));
    assert_eq!(refused(|record| record.features = 0), (Field::LocalApic, 0));
    assert_eq!(refused(|record| record.io_apics[0].registers = 0xfec0_0000), (Field::IoApic, 0xfec0_0000));
    assert_eq!(refused(|record| record.pci[0].msix_entries = 1), (Field::Msix, 0));
    assert_eq!(refused(|record| record.pci[0].msix_table = 16 * MIB), (Field::Msix, 16 * MIB));
    let msix = |table: u64, entries: u16| {
        move |record: &mut BootRecord| (record.pci[0].msix_table, record.pci[0].msix_entries) = (table, entries.into())
    };
    assert_eq!(refused(msix(MMIO_WINDOW_END - 32, 3)), (Field::Msix, MMIO_WINDOW_END - 32), "48 bytes");
    assert_eq!(refused(msix(MMIO_WINDOW, 2049)), (Field::Msix, MMIO_WINDOW));
    // Registers in memory would give whoever drives the device that memory.
    assert_eq!(refused(|record| record.pci[0].bars[0].address = 4 * MIB), (Field::Bar, 4 * MIB));
    assert_eq!(refused(|record| record.pci[0].bars[0].address = 32 * MIB), (Field::Bar, 32 * MIB));
    assert_eq!(refused(|record| record.pci[0].bars[0].address = 0u64.wrapping_sub(0x1000)).0, Field::Bar);
    assert_eq!(refused(|record| record.pci[0].bars[0].bytes = 0x1001).0, Field::Bar);
    assert_eq!(refused(|record| record.pci[0].bars[0].alone = 2).0, Field::Bar);
    assert_eq!(refused(|record| record.screen.kind = 3), (Field::Screen, 3));
    assert_eq!(refused(|record| record.screen.kind = screen::PIXELS).0, Field::Screen);
    let screen = |record: &mut BootRecord| {
        (record.screen.kind, record.screen.pitch, record.screen.height) = (screen::PIXELS, 4096, 3);
        record.screen.pixels = MMIO_WINDOW_END - 2 * 4096;
    };
    assert_eq!(refused(screen), (Field::Screen, screen::PIXELS.into()), "its last row");
    assert_eq!(refused(|record| record.said.bytes = 8185), (Field::Said, 8185));
}

#[test]
fn a_manifest_that_cannot_be_is_refused() {
    assert_eq!(refused(|record| record.rings[0].slots = 63), (Field::Ring, 63));
    assert_eq!(refused(|record| record.rings[0].consumer = 1).0, Field::Ring);
    assert_eq!(refused(|record| record.rings[0].consumer = CORE).0, Field::Ring);
    assert_eq!(refused(|record| record.rings[0].service = 99).0, Field::Ring);
    assert_eq!(refused(|record| record.components[0].entry.stack_pages = 0), (Field::Component, 0));
    assert_eq!(refused(|record| record.components[0].entry.dma_pages = u32::MAX), (Field::Component, 0));
    assert_eq!(refused(|record| record.components[0].entry.budget_us = 0), (Field::Component, 0));
    let all: [fn(&mut abi::manifest::Component); 7] = [
        |entry| entry.stack_pages = stack_pages() + 1,
        |entry| entry.memory_pages = pages(layout::IMAGE_END - layout::IMAGE_BASE) + 1,
        |entry| entry.dma_pages = pages(layout::VM_WINDOW - layout::DMA) + 1,
        |entry| entry.keep_pages = pages(layout::KEEP_END - layout::KEEP) + 1,
        |entry| (entry.port_first, entry.port_count) = (0xffff, 2),
        |entry| entry.pci_class = 0x1_0000,
        |entry| entry.port_irq = 16,
    ];
    for lie in all {
        assert_eq!(refused(|record| lie(&mut record.components[0].entry)), (Field::Component, 0));
    }
    // One ring more than a component can have, whichever end it has.
    for (producer, consumer) in [(CORE, 0), (0, CORE)] {
        let rings = |record: &mut BootRecord| {
            let one = abi::manifest::Ring { producer, consumer, ..record.rings[0] };
            record.rings[..MAX_RINGS_PER_COMPONENT + 1].fill(one);
            record.ring_count = 9;
        };
        assert_eq!(refused(rings), (Field::Component, 0));
    }
    let twins = |record: &mut BootRecord| {
        (record.components[1], record.component_count) = (record.components[0], 2);
    };
    assert_eq!(refused(twins), (Field::Component, 0));
    assert_eq!(refused(|record| record.components[0].chosen = 1), (Field::Policy, 1));
    assert_eq!(refused(|record| record.components[0].chosen = 7), (Field::Policy, 7));
    assert_eq!(refused(|record| record.components[0].entry.policy_count = 9).0, Field::Policy);
    assert_eq!(refused(|record| record.components[0].programs[1].state = 3), (Field::Policy, 3));
    assert_eq!(refused(|record| record.images[0].entry.memory_bytes = 1), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.memory_bytes += 8), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.flags = image_flags::CONTROL << 1), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.flags = image_flags::READS_DISKS), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.flags = image_flags::CONTROL | 8), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.rx_slots = 3), (Field::Image, 0));
    let slots = |rx: u32, tx: u32| {
        move |record: &mut BootRecord| (record.images[0].entry.rx_slots, record.images[0].entry.tx_slots) = (rx, tx)
    };
    assert_eq!(refused(slots(64, 3)), (Field::Image, 0));
    assert_eq!(refused(slots(512, 512)), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.net = 1), (Field::Image, 0));
    assert_eq!(refused(|record| record.images[0].entry.weight = u16::MAX), (Field::Image, 0));
}

/// Rings between components are about no service, and those with the core about one.
#[test]
fn a_ring_between_components_is_about_no_service() {
    let pair = |service: u32| {
        let record = good();
        (record.components[1], record.component_count) = (record.components[0], 2);
        record.components[1].entry.priority += 1;
        record.rings[2] = abi::manifest::Ring { producer: 0, consumer: 1, service, ..record.rings[0] };
        record.ring_count = 3;
        check(record, &GIVEN)
    };
    assert_eq!(pair(Service::NONE), Ok(()));
    assert_eq!(pair(Service::Pager.raw()), Err(Refused { field: Field::Ring, value: 64 }));
    assert_eq!(refused(|record| record.rings[0].service = Service::NONE).0, Field::Ring);
}

/// Data lies behind rings between components only, and fits with the slots.
#[test]
fn a_ring_between_components_may_have_data() {
    let with = |data_pages: u32| {
        let record = good();
        (record.components[1], record.component_count) = (record.components[0], 2);
        record.components[1].entry.priority += 1;
        let ring = abi::manifest::Ring { producer: 0, consumer: 1, service: Service::NONE, ..record.rings[0] };
        (record.rings[2], record.ring_count) = (abi::manifest::Ring { data_pages, ..ring }, 3);
        check(record, &GIVEN)
    };
    let most = (layout::RING_STRIDE - abi::ring::ring_bytes(64)) / PAGE_SIZE;
    let most = u32::try_from(most).expect("few");
    assert_eq!([with(1), with(most)], [Ok(()); 2]);
    let refused_ring = Err(Refused { field: Field::Ring, value: 64 });
    assert_eq!([with(most + 1), with(u32::MAX)], [refused_ring; 2]);
    assert_eq!(refused(|record| record.rings[0].data_pages = 1).0, Field::Ring);
}

/// The same lie about a segment of the component and of the image.
#[track_caller]
fn refused_segment(number: usize, lie: impl Fn(&mut boot::Segment)) -> [Field; 2] {
    let component = refused(|record| lie(&mut record.components[0].programs[0].segments[number])).0;
    [component, refused(|record| lie(&mut record.images[0].program.segments[number])).0]
}

#[test]
fn segments_must_lie_where_programs_may() {
    let all: [fn(&mut boot::Segment); 3] =
        [|part| part.address += 8, |part| part.address = 0, |part| part.address = u64::MAX - 4095];
    for lie in all {
        assert_eq!(refused_segment(0, lie), [Field::Segment; 2]);
    }
    assert_eq!(refused_segment(0, |part| part.pages = 0), [Field::Segment; 2]);
    assert_eq!(refused_segment(1, |part| part.pages = 1 << 20), [Field::Segment; 2]);
    // One page beyond what the component, and the VM, has.
    let last = |record: &mut BootRecord| record.components[0].programs[0].segments[1].pages = 7;
    assert_eq!(refused(last), (Field::Segment, layout::IMAGE_BASE + 2 * PAGE_SIZE));
    let last = |record: &mut BootRecord| record.images[0].program.segments[2].address = 16 * MIB;
    assert_eq!(refused(last), (Field::Segment, 16 * MIB));
    assert_eq!(refused_segment(1, |part| part.address -= PAGE_SIZE), [Field::SegmentOverlap; 2]);
    let entry = |record: &mut BootRecord| record.images[0].program.entry = IMAGE_BASE + PAGE_SIZE;
    assert_eq!(refused(entry), (Field::Entry, IMAGE_BASE + PAGE_SIZE), "data");
    assert_eq!(refused(|record| record.components[0].programs[0].entry = 0), (Field::Entry, 0));
    assert_eq!(refused(|record| record.images[0].program.segment_count = 0).0, Field::Entry);
}

#[test]
fn nothing_is_writable_and_executable() {
    assert_eq!(refused_segment(0, |part| part.flags |= segment::WRITE), [Field::SegmentAccess; 2]);
    assert_eq!(refused_segment(1, |part| part.flags |= segment::EXECUTE), [Field::SegmentAccess; 2]);
    assert_eq!(refused_segment(1, |part| part.flags = 8), [Field::SegmentAccess; 2]);
    // A hole is nothing else, is empty, and no component has one.
    assert_eq!(refused_segment(1, |part| part.flags = segment::HOLE), [Field::SegmentAccess; 2]);
    let hole = |record: &mut BootRecord| {
        let part = &mut record.components[0].programs[0].segments[1];
        (part.flags, part.bytes, part.pristine) = (segment::HOLE, 0, 0);
    };
    assert_eq!(refused(hole).0, Field::SegmentAccess);
    for more in [segment::WRITE, segment::EXECUTE] {
        let hole = |record: &mut BootRecord| record.images[0].program.segments[2].flags |= more;
        assert_eq!(refused(hole), (Field::SegmentAccess, (segment::HOLE | more).into()));
    }
}

#[test]
fn programs_start_with_what_is_in_modules() {
    // Free memory, the core's, the loader's, none at all, within a page.
    for at in [2 * MIB, 5 * MIB, 8 * MIB, 1 << 50, MIB + 8] {
        let fields = [0, 1].map(|number| refused_segment(number, |part| part.pristine = at));
        assert_eq!(fields, [[Field::SegmentOwner; 2]; 2], "{at:#x}");
    }
    // Over the edge.
    let text = |record: &mut BootRecord| record.components[0].programs[0].segments[0].pristine = 2 * MIB - PAGE_SIZE;
    assert_eq!(refused(text).0, Field::SegmentOwner);
}

#[test]
fn whole_pages_are_mapped_and_tails_are_golden() {
    let text = |record: &mut BootRecord| record.components[0].programs[0].segments[0].bytes -= 1;
    assert_eq!(refused(text).0, Field::SegmentOwner, "what lies behind the text would be seen");
    assert_eq!(refused_segment(1, |part| part.bytes = 1 << 40), [Field::SegmentOwner; 2]);
    let tail = |at: u64| move |record: &mut BootRecord| record.images[0].program.segments[1].tail = at;
    for at in [0, 2 * MIB, 7 * MIB + 8, 7 * MIB + PAGE_SIZE] {
        assert_eq!(refused(tail(at)).0, Field::SegmentOwner, "{at:#x}");
    }
    assert_eq!(refused(|record| record.images[0].program.segments[0].tail = 7 * MIB).0, Field::SegmentOwner);
    assert_eq!(refused(|record| record.components[0].programs[0].segments[1].tail = 7 * MIB).0, Field::SegmentOwner);
}

/// A golden frame is of one image, and no other image's VMs see it.
#[test]
fn a_tail_is_in_a_golden_frame_of_its_own_image() {
    let with_tail = |at: u64| {
        let record = good();
        (record.images[1], record.image_count) = (record.images[0], 2);
        record.images[1].program.segments[1].tail = at;
        record.ranges.copy_within(4..6, 5);
        record.ranges[4] = Range { id: 1, ..range(7 * MIB + PAGE_SIZE, 7 * MIB + 2 * PAGE_SIZE, owner::GOLDEN) };
        record.range_count = 7;
        check(record, &GIVEN)
    };
    assert_eq!(with_tail(7 * MIB + PAGE_SIZE), Ok(()));
    assert_eq!(with_tail(7 * MIB).map_err(|refused| refused.field), Err(Field::SegmentOwner));
}

#[test]
fn options_beyond_their_limits_are_refused() {
    let all: [fn(&mut Options); 5] = [
        |options| options.gatekeeper = 3,
        |options| options.log = 6,
        |options| options.power_off = 2,
        |options| options.prefix = 31,
        |options| options.quantum_ns = 0,
    ];
    for lie in all {
        assert_eq!(refused(|record| lie(&mut record.options)).0, Field::Options);
    }
    // Only the test image can make mistakes on purpose.
    let least = if cfg!(feature = "selftest") { 3 } else { 1 };
    assert_eq!(refused(|record| record.options.selftest = least), (Field::SelfTest, least.into()));
}

#[test]
fn tables_of_vms_that_cannot_be_are_refused() {
    let most = u32::try_from(MAX_SLOTS).expect("32 bits");
    let all: [fn(&mut Vms); 5] = [
        |vms| vms.slots = 0,
        |vms| vms.seats = 0,
        |vms| vms.seats = 101,
        |vms| vms.written = 101,
        |vms| vms.slots = u32::MAX,
    ];
    for lie in all {
        assert_eq!(refused(|record| lie(&mut record.vms)).0, Field::VmCounts);
    }
    assert_eq!(refused(|record| record.vms.slots = most + 1), (Field::VmCounts, 40 << 32 | u64::from(most + 1)));
    let seats = |record: &mut BootRecord| {
        (record.vms.slots, record.vms.seats) = (most, u32::try_from(MAX_SEATS).expect("32 bits") + 1);
    };
    assert_eq!(refused(seats).0, Field::VmCounts);
    // 147 cells are not enough for 150 slots, nor 12,288 bytes for the records of as many.
    assert_eq!(refused(|record| record.vms.slots = 150), (Field::VmRecords, 5 * MIB + 8 * PAGE_SIZE));
    assert_eq!(refused(|record| record.vms.records.bytes = PAGE_SIZE).0, Field::VmRecords);
    assert_eq!(refused(|record| record.vms.records.start += 8).0, Field::VmRecords);
    assert_eq!(refused(|record| record.vms.records.start = 16 * MIB), (Field::VmRecords, 16 * MIB));
    assert_eq!(refused(|record| record.vms.cells.bytes = PAGE_SIZE).0, Field::VmCells);
    assert_eq!(refused(|record| record.vms.written_cells = 193), (Field::VmCells, 5 * MIB + 16 * PAGE_SIZE));
    assert_eq!(refused(|record| record.vms.cells.start = 2 * MIB), (Field::VmCells, 2 * MIB));
    // Two things in one place.
    assert_eq!(refused(|record| record.vms.cells.start = record.vms.records.start).0, Field::Core);
    assert_eq!(refused(|record| record.vms.records.start = record.core.start).0, Field::Core);
}
