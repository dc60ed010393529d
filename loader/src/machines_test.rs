//! Machines as data files, and hundreds of others drawn at random: the loader places everything in their memory, and the core believes
//! what it writes.

use super::acpi::{AcpiInfo, IoApicInfo};
use super::barriers::{Identity, Make, Mode, plan};
use super::clock::TscRate;
use super::features::CpuFeatures;
use super::information::Information;
use super::manifest::Manifest;
use super::manifest_test::{component, image, name, ring};
use super::map::{self, Area, Areas, Kind, LOW_MEMORY_END, Piece};
use super::memory::frames::CLASSES;
use super::memory::phys::fake::DIRECT_MAP;
use super::memory::tables::{DirectMap, Tables};
use super::memory::{Frames, Owner, PhysAddr, core_memory};
use super::modules::{Module, Modules};
use super::options::{Options, VmRequest};
use super::pci::tests::Bus;
use super::prepare::{Clock, Found, Prepared, Processor, prepare};
use super::virtualization::{Virtualization, tests::svm_plan};
use abi::barriers::BarrierPlan;
use abi::boot::{BootRecord, CORE_BASE, Extent, Override, backend, owner};
use abi::component::layout;
use abi::limits::PAGE_SIZE;
use abi::manifest::{CORE, Component, Image, ModuleDigest, NONE, Ring, digest};
use abi::note::{KIND_COMPONENT, KIND_CORE_SVM, KIND_GUEST, Note};
use abi::record::{Args, Cell, Record};
use abi::service::Service;
use abi::vm::ImageId;
use hv_core::check::{Field, Given, check};
use hv_core::check_vms;
use proptest::prelude::*;
use zerocopy::FromBytes;

const MIB: u64 = 1 << 20;
/// Memory that the fake machines have at most, but for what the loader never touches.
const RAM: u64 = 512 * MIB;
/// What the loader takes from 1 MiB on.
const LOADER_BYTES: u64 = 0x8_0000;

/// A PCI function: address, vendor and device, class, and registers: whether ports, address, bytes.
type Function = (u16, u32, u32, Vec<(bool, u64, u64)>);
/// What a boot has come to: also the modules with what was in them.
type Booted = (Prepared, Frames, Areas, Vec<(Module, Vec<u8>)>);

/// A machine.
#[derive(Clone, Debug, Default)]
struct Machine {
    areas: Vec<Area>,
    features: CpuFeatures,
    acpi: AcpiInfo,
    pci: Vec<Function>,
    /// Functions that must be found.
    functions: usize,
    /// Where the boot loader has put its information, and the modules from there on with so many pages between them.
    at: u64,
    gap: u64,
    /// Options: slots, and VMs of the image that is there, of the one that is missing, and again of the first one.
    slots: Option<u32>,
    vms: [u32; 3],
}

fn number(text: &str) -> u64 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.unwrap_or_else(|_| panic!("a number: {text}"))
}

impl Machine {
    /// The machine that a file describes.
    fn read(text: &str) -> Machine {
        let mut machine = Machine { at: 0x10_0000 + 4 * MIB, gap: 1, ..Machine::default() };
        machine.features = CpuFeatures { apic: true, xsave: true, syscall: true, ..CpuFeatures::default() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match &words[..] {
                ["memory", kind, start, end] => {
                    let kind = match *kind {
                        "usable" => Kind::Usable,
                        "firmware" => Kind::Firmware,
                        "reserved" => Kind::Reserved,
                        other => panic!("{other}"),
                    };
                    machine.areas.push(Area { start: number(start), end: number(end), kind });
                }
                ["features", names @ ..] => {
                    for name in names {
                        let features = &mut machine.features;
                        match *name {
                            "x2apic" => features.x2apic = true,
                            "tsc-deadline" => features.tsc_deadline = true,
                            "pcid" => features.pcid = true,
                            "huge" => features.huge_pages = true,
                            other => panic!("{other}"),
                        }
                    }
                }
                ["local-apic", at] => machine.acpi.local_apic = number(at),
                ["io-apic", at, first] => {
                    let gsi_base = u32::try_from(number(first)).expect("32 bits");
                    let info = IoApicInfo { address: PhysAddr::new(number(at)), gsi_base };
                    machine.acpi.io_apics.push(info).expect("room");
                }
                ["override", irq, gsi, flags] => {
                    let irq = u8::try_from(number(irq)).expect("8 bits");
                    let (gsi, flags) = (number(gsi), number(flags));
                    let (gsi, flags) = (u32::try_from(gsi).expect("32 bits"), u16::try_from(flags).expect("16 bits"));
                    machine.acpi.overrides.push(Override { irq, gsi, flags, reserved: 0 }).expect("room");
                }
                ["pci", address, ids, class, registers @ ..] => {
                    let hex = |text: &str| u32::from_str_radix(text, 16).expect("hexadecimal");
                    let (bus, rest) = address.split_once(':').expect("a bus");
                    let (device, function) = rest.split_once('.').expect("a function");
                    let address = hex(bus) << 8 | hex(device) << 3 | hex(function);
                    let (vendor, device) = ids.split_once(':').expect("two ids");
                    let of = registers.chunks(3).map(|of| (of[0] == "io", number(of[1]), number(of[2])));
                    let ids = hex(device) << 16 | hex(vendor);
                    machine.pci.push((u16::try_from(address).expect("16 bits"), ids, hex(class), of.collect()));
                }
                ["expect", "cores", _, "pci", functions] => {
                    machine.functions = usize::try_from(number(functions)).expect("few");
                }
                [] => {}
                other => panic!("{other:?}"),
            }
        }
        machine
    }

    fn bus(&self) -> Bus {
        let mut bus = Bus::default();
        for (address, ids, class, registers) in &self.pci {
            let (mut words, mut writable) = ([0_u32; 64], [0_u32; 64]);
            (words[0], words[2], words[1], writable[1]) = (*ids, class << 8, 3, 7);
            let mut at = 4;
            for &(io, address, bytes) in registers {
                let [low, high] = [address, address >> 32].map(|word| u32::try_from(word & 0xffff_ffff).expect("cut"));
                let mask = u32::try_from(!(bytes - 1) & 0xffff_ffff).expect("cut");
                (words[at], writable[at]) = (low | if io { 1 } else { 0 }, mask);
                if high != 0 {
                    words[at] |= 4;
                    (words[at + 1], writable[at + 1]) = (high, u32::MAX);
                    at += 1;
                }
                at += 1;
            }
            bus.0.insert(*address, (words, writable));
        }
        bus
    }
}

/// A program header: type, flags, offset, address, bytes in the file, bytes in memory.
type Header = elf_file::sample::Header;

/// Everything that GRUB loads beside the loader.
fn modules() -> Vec<(&'static str, Vec<u8>)> {
    let file = |entry, headers: &[Header], kind| {
        let mut file = elf_file::sample::file_with(entry, headers, Note::new(kind));
        for (at, byte) in file.iter_mut().enumerate().skip(0x2000) {
            *byte = at.to_le_bytes()[0] ^ 0x35;
        }
        file[0x1000..0x1e00].fill(0xc3);
        file
    };
    let note = elf_file::sample::NOTE;
    let core = [
        note,
        (1, 5, 0x1000, CORE_BASE, 0x800, 0x1000),
        (1, 4, 0x2000, CORE_BASE + 0x1000, 0x100, 0x1000),
        (1, 6, 0x2000, CORE_BASE + 0x2000, 0x200, 0x30_0000),
        (1, 0, 0x2000, CORE_BASE + 0x30_2000, 0, 0x1000),
        (1, 6, 0x2000, CORE_BASE + 0x30_3000, 0, 0x4_0000),
    ];
    let base = layout::IMAGE_BASE;
    // Text that fills a part of its page, with nothing behind; constants whose page the data has as well.
    let policy = [
        note,
        (1, 5, 0x1000, base, 0x800, 0x800),
        (1, 4, 0x2000, base + 0x1000, 0x100, 0x2000),
        (1, 6, 0x2000, base + 0x4000, 0x180, 0x3000),
    ];
    let guest = abi::guest::IMAGE_BASE;
    let image = [note, (1, 5, 0x1000, guest, 0x1000, 0x1000), (1, 6, 0x2000, guest + 0x1000, 0x900, 0x4000)];
    vec![
        ("core-svm", file(CORE_BASE + 16, &core, KIND_CORE_SVM)),
        ("core-vmx", vec![7; 5000]),
        ("plain-module", file(base + 16, &policy, KIND_COMPONENT)),
        ("fancy-module", vec![1; 9000]),
        ("httpd", file(guest, &image, KIND_GUEST)),
    ]
}

/// Memory of a machine; what nobody touches takes no memory of the host's.
fn ram() -> Vec<u8> {
    let memory = vec![0_u8; usize::try_from(RAM + PAGE_SIZE).expect("64 bits")];
    DIRECT_MAP.set((memory.as_ptr().expose_provenance() as u64).next_multiple_of(PAGE_SIZE));
    memory
}

fn parts() -> (Vec<Component>, Vec<Ring>, Vec<Image>) {
    let mut netmux = component("netmux", 0);
    (netmux.pci_class, netmux.dma_pages) = (0x0200, 4);
    let mut pager = component("pager", 1);
    pager.policy_count = 1;
    assert_eq!(pager.pci_class, NONE);
    let with_core = |text: &str, producer, consumer, service: Service| Ring {
        service: service.raw(),
        ..ring(text, producer, consumer)
    };
    let rings = vec![
        with_core("core-netmux", CORE, 0, Service::Net),
        with_core("netmux-core", 0, CORE, Service::Net),
        with_core("core-pager", CORE, 1, Service::Pager),
        with_core("pager-core", 1, CORE, Service::Pager),
    ];
    (vec![netmux, pager], rings, vec![image("httpd"), image("missing")])
}

/// What is done on a processor that needs and has a good deal.
fn barriers() -> BarrierPlan {
    let zen3 = Identity {
        make: Make::Amd,
        family: 0x19,
        amd_extensions: 1 << 12,
        amd_more: [1 << 5, 0],
        ..Identity::default()
    };
    plan(&zen3, Mode::Auto)
}

/// Boots a machine as far as the loader's last step. `None` where there is no room for what GRUB loads.
#[allow(clippy::too_many_lines)] // One after the other, as a boot goes.
fn boot(machine: &Machine) -> Option<Booted> {
    let mut areas = Areas::default();
    machine.areas.iter().for_each(|area| areas.add(*area).expect("room"));
    // GRUB puts nothing where the loader lies, nor where there is no memory.
    let free = areas.free_pieces(&[]);
    let has_room = |start: u64, end: u64| free.iter().any(|piece| piece.start <= start && end <= piece.end);
    let loader_end = LOW_MEMORY_END + LOADER_BYTES;
    if machine.at < loader_end || !has_room(LOW_MEMORY_END, loader_end) || !has_room(machine.at, machine.at + 8192) {
        return None;
    }
    let mut loaded = Vec::new();
    let mut all = Modules::default();
    let mut at = machine.at + 16 * PAGE_SIZE;
    for (text, file) in modules() {
        let module = Module { name: name(text), start: PhysAddr::new(at), bytes: file.len() as u64 };
        if module.end() > RAM || !has_room(at, module.end()) {
            return None;
        }
        core_memory(module.start, module.end() - at).clear(0, usize::try_from(module.end() - at).expect("small"));
        core_memory(module.start, module.bytes).write(0, &file).expect("room");
        all.add(module).expect("apart");
        at = module.end() + machine.gap * PAGE_SIZE;
        loaded.push((module, file));
    }
    let own = Area { start: machine.at, end: machine.at + 5000, kind: Kind::Reserved };
    let mut in_use = vec![
        (Piece { start: LOW_MEMORY_END, end: LOW_MEMORY_END + LOADER_BYTES }, Owner::Loader),
        (Piece { start: own.start, end: own.end }, Owner::Loader),
    ];
    in_use.extend(all.iter().map(|module| (Piece { start: module.start.as_u64(), end: module.end() }, Owner::Module)));
    // SAFETY: the memory of the fake machine reaches as far as the loader's own pieces do: below 512 MiB.
    let mut frames = unsafe { map::make_frames(&areas, &in_use) }?;
    let (components, rings, images) = parts();
    let digests: Vec<ModuleDigest> = loaded
        .iter()
        .map(|(module, file)| ModuleDigest { name: module.name, bytes: module.bytes, digest: digest(file) })
        .collect();
    let manifest = Manifest {
        components: &components,
        rings: &rings,
        images: &images,
        modules: &digests,
        tenants: &[],
        defaults: "",
    };
    let information = Information { line: "", modules: all, areas, rsdp: None, own };
    let mut options = Options { slots: machine.slots, ..Options::default() };
    let requests = [0, 1, 0].into_iter().zip(machine.vms).map(|(image, count)| VmRequest {
        image,
        count,
        disk: abi::attachment::Attachment::NONE,
    });
    options.vms.extend(requests.filter(|request| request.count > 0));
    let vms = (&options).into();
    let found = Found { information: &information, manifest: &manifest, options: &options, acpi: &machine.acpi, vms };
    let virtualization = Virtualization::Svm(svm_plan());
    let processor = Processor { features: &machine.features, virtualization: &virtualization, barriers: barriers() };
    let rate = TscRate { hz: 2_000_000_000, against: "nothing" };
    let clock = Clock { rate, tsc: 5, unix_ns: 7 };
    let prepared = prepare(&found, &processor, &clock, &mut machine.bus(), &mut frames);
    Some((prepared, frames, information.areas, loaded))
}

/// A table that the record names.
fn table<T: FromBytes + Copy>(place: Extent) -> Vec<T> {
    let mut bytes = vec![0; usize::try_from(place.bytes).expect("small")];
    core_memory(PhysAddr::new(place.start), place.bytes).read(0, &mut bytes).expect("in memory");
    bytes.chunks_exact(size_of::<T>()).map(|one| T::read_from_bytes(one).expect("as long")).collect()
}

/// Whether the core believes the VMs that are written; they are those that were asked for; and it believes no other than these.
fn check_written(machine: &Machine, record: &BootRecord) -> Result<(), TestCaseError> {
    let (records, cells): (Vec<Record>, Vec<Cell>) = (table(record.vms.records), table(record.vms.cells));
    prop_assert_eq!(check_vms(record, &records, &cells), Ok(()));
    let slots = record.vms.slots;
    prop_assert_eq!(machine.slots.unwrap_or(slots), slots);
    let [first, _, again] = machine.vms;
    let written = (first + again).min(slots);
    prop_assert_eq!((record.vms.written, record.vms.written_cells), (written, written), "a short address each");
    for slot in 0..written {
        let cell = &cells[slot as usize];
        prop_assert_eq!(&cell.bytes[..usize::from(cell.len)], b"ip=dhcp");
    }
    let Some(last) = written.checked_sub(1) else { return Ok(()) };
    // One cell for two VMs, an image that was refused, a VM that somebody knows of.
    let lies: [fn(&mut Record); 3] = [|vm| vm.args = Args::at(0), |vm| vm.image = ImageId::new(1), |vm| vm.place = 2];
    for (lie, field) in
        lies.into_iter().zip([Field::VmArgs, Field::VmImage, Field::VmRecord]).skip(usize::from(last == 0))
    {
        let mut records = records.clone();
        lie(&mut records[last as usize]);
        let refused = check_vms(record, &records, &cells);
        prop_assert_eq!(refused.map_err(|refused| refused.field), Err(field));
    }
    Ok(())
}

/// Whether the core believes the record, and the record is right.
fn judge(machine: &Machine) -> Result<bool, TestCaseError> {
    let _ram = ram();
    let Some((prepared, frames, areas, loaded)) = boot(machine) else { return Ok(false) };
    let record = &*prepared.record;
    let given = Given { backend: backend::SVM, core_bytes: 0x34_3000, at: record.own.start };
    prop_assert_eq!(check(record, &given), Ok(()));
    check_written(machine, record)?;
    prop_assert_eq!(record.barriers, barriers());
    prop_assert!(!record.barriers.is_none());
    prop_assert_eq!(record.pci().len(), machine.functions);
    prop_assert_eq!(record.io_apics().len(), machine.acpi.io_apics.len());
    // Every usable page above the low memory is somebody's, and no other page is.
    let mut owned = 0;
    for range in record.ranges() {
        owned += (range.end - range.start) / PAGE_SIZE;
        let other = machine
            .areas
            .iter()
            .find(|area| area.kind != Kind::Usable && area.start < range.end && range.start < area.end);
        prop_assert!(other.is_none(), "{range:x?} is none of ours: {other:x?}");
        prop_assert!(range.start >= LOW_MEMORY_END);
    }
    let usable: u64 = areas.free_pieces(&[]).iter().map(|piece| (piece.end - piece.start) / PAGE_SIZE).sum();
    prop_assert_eq!(owned, usable, "frames with an owner, and usable frames");
    prop_assert_eq!(frames.counts().iter().sum::<u64>(), frames.len() as u64);
    prop_assert_eq!(CLASSES.len(), frames.counts().len());
    // The core lies there, as its module has it, and nothing is writable and executable.
    // SAFETY: the loader has just built them.
    let tables = unsafe { Tables::adopt(PhysAddr::new(record.root), DirectMap, Owner::Core) };
    let core = &loaded[0].1;
    for (offset, at, bytes) in [(0x1000, 0, 0x800), (0x2000, 0x1000, 0x100), (0x2000, 0x2000, 0x200)] {
        let leaf = tables.walk(CORE_BASE + at).expect("mapped");
        prop_assert_eq!(leaf.frame.as_u64(), record.core.start + at);
        let mut found = vec![1; 4096];
        core_memory(leaf.frame, PAGE_SIZE).read(0, &mut found).expect("a page");
        prop_assert!(found[..bytes] == core[offset..offset + bytes] && found[bytes..].iter().all(|&byte| byte == 0));
    }
    prop_assert!(tables.walk(CORE_BASE + 0x30_2000).is_none(), "the guard below the stack");
    let mut bad = 0;
    tables.for_each_leaf(|leaf| bad += usize::from(leaf.write && leaf.execute));
    prop_assert_eq!(bad, 0);
    // Programs start with what their modules have, and zeros.
    let policy = &record.components()[0].programs[0];
    for (part, (offset, bytes, whole)) in
        policy.segments().iter().zip([(0x1000, 0x800, 0x1000), (0x2000, 0x100, 0x2000), (0x2000, 0x180, 0x180)])
    {
        prop_assert_eq!(part.bytes, whole as u64);
        let mut found = vec![1; whole];
        core_memory(PhysAddr::new(part.pristine), part.bytes).read(0, &mut found).expect("its bytes");
        let file = &loaded[2].1;
        prop_assert!(found[..bytes] == file[offset..offset + bytes] && found[bytes..].iter().all(|&byte| byte == 0));
    }
    prop_assert_eq!([record.components()[0].programs[1].state, record.images()[1].program.state], [2, 1]);
    let tail = record.images()[0].program.segments()[1].tail;
    let mut found = vec![1; 4096];
    core_memory(PhysAddr::new(tail), PAGE_SIZE).read(0, &mut found).expect("a page");
    prop_assert!(found[..0x900] == loaded[4].1[0x2000..0x2900] && found[0x900..].iter().all(|&byte| byte == 0));
    // What nobody needs goes back: the loader, both cores' modules, the policy that is none, what GRUB said.
    let of_loader = |at: u64| {
        record.ranges().iter().any(|range| range.owner == owner::LOADER && (range.start..range.end).contains(&at))
    };
    for at in [
        LOW_MEMORY_END,
        machine.at,
        record.own.start,
        loaded[0].0.start.as_u64(),
        loaded[1].0.start.as_u64(),
        loaded[3].0.start.as_u64(),
    ] {
        prop_assert!(of_loader(at), "{at:#x} is kept");
    }
    prop_assert!(!of_loader(loaded[2].0.start.as_u64()) && !of_loader(loaded[4].0.start.as_u64()));
    Ok(true)
}

#[test]
fn machines_of_the_files_are_placed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/machines");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("a file").path();
        let machine = Machine::read(&std::fs::read_to_string(&path).expect("text"));
        match judge(&machine) {
            Ok(placed) => assert!(placed, "{}: no room", path.display()),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        count += 1;
    }
    assert!(count >= 4);
}

fn any_machine() -> impl Strategy<Value = Machine> {
    let kind = prop_oneof![4 => Just(Kind::Usable), 1 => Just(Kind::Firmware), 1 => Just(Kind::Reserved)];
    let hole =
        (0_u64..RAM, 1_u64..3 * MIB, kind).prop_map(|(start, bytes, kind)| Area { start, end: start + bytes, kind });
    let board = (any::<[bool; 4]>(), 1_usize..5, 1_u16..32, any::<bool>());
    let place = (0_u64..RAM / PAGE_SIZE, 0_u64..40);
    let vms = (prop::option::of(1_u32..600), [0_u32..300, 0_u32..300, 0_u32..300], any::<bool>());
    (64_u64..RAM / MIB, prop::collection::vec(hole, 0..8), board, place, vms).prop_map(
        |(
            megs,
            holes,
            ([x2apic, tsc_deadline, pcid, huge_pages], io_apics, nic, above),
            (at, gap),
            (slots, vms, low),
        )| {
            let usable = |start, end| Area { start, end, kind: Kind::Usable };
            let at = at * PAGE_SIZE;
            let mut machine = Machine { at, gap, functions: 1, slots, vms, ..Machine::default() };
            machine.areas.push(usable(if low { 0 } else { MIB }, megs * MIB + 0x800));
            // Holes only: what is usable beyond the memory of the fake machine is not there.
            machine.areas.extend(holes.into_iter().filter(|area| area.kind != Kind::Usable));
            if above {
                machine.areas.push(usable(1 << 32, 3 << 32));
            }
            machine.features = CpuFeatures {
                x2apic,
                tsc_deadline,
                pcid,
                huge_pages,
                apic: true,
                xsave: true,
                syscall: true,
                ..CpuFeatures::default()
            };
            machine.acpi.local_apic = 0xfee0_0000;
            for (number, gsi_base) in (0..io_apics as u64).zip((0..).step_by(24)) {
                let info = IoApicInfo { address: PhysAddr::new(0xfec0_0000 + number * 0x1000), gsi_base };
                machine.acpi.io_apics.push(info).expect("room");
            }
            machine.pci.push((nic << 3, 0x100e_8086, 0x02_0000, vec![(false, 0xfeb0_0000, 0x2_0000)]));
            machine
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    /// Whatever the machine, the core believes the record, and the record is right.
    #[test]
    fn any_machine_is_placed(machine in any_machine()) {
        // Where GRUB finds no room, nothing is booted.
        prop_assume!(judge(&machine)?);
    }
}
