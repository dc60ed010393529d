//! Good inputs of the core's readers.

use abi::component::layout;
use abi::limits::Name;
use abi::manifest::{ANY, CORE, Component, Header, Image, NONE, Ring};
use abi::note::{KIND_COMPONENT, KIND_GUEST, Note};
use abi::service::Service;
use zerocopy::{FromZeros, IntoBytes};

fn name(text: &str) -> Name {
    Name::new(text).unwrap_or(Name::EMPTY)
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(0)
}

/// A manifest of a whole system, and an empty one. The checksum and what is beside it are set right by the target.
pub fn manifests() -> Vec<Vec<u8>> {
    let component = |role: &str, priority: u32| {
        let mut component = Component::new_zeroed();
        component.name = name(role);
        for (place, policy) in component.policies.iter_mut().zip(["plain", "fancy"]) {
            place.name = name(policy);
            place.module = name(policy);
        }
        component.policy_count = 2;
        component.priority = priority;
        component.budget_us = 1000;
        component.stack_pages = 4;
        component.memory_pages = 256;
        component.pci_class = NONE;
        component.port_irq = NONE;
        component
    };
    let mut components =
        [component("netmux", 0), component("pager", 1), component("sched", 2), component("monitor", 3)];
    components[0].dma_pages = 64;
    components[0].keep_pages = 2;
    components[0].pci_class = 0x0200;
    components[3].port_first = 0x3f8;
    components[3].port_count = 8;
    components[3].port_irq = 4;
    let mut rings = Vec::new();
    let parties =
        [("netmux", Service::Net), ("pager", Service::Pager), ("sched", Service::Plan), ("monitor", Service::Control)];
    for (rank, (role, service)) in (0..).zip(parties) {
        let service = service.raw();
        let ring = |text: &str, producer, consumer| Ring {
            name: name(text),
            producer,
            consumer,
            slots: 64,
            service,
            data_pages: 0,
            reserved: 0,
        };
        rings.push(ring(&format!("core-{role}"), CORE, rank));
        rings.push(ring(&format!("{role}-core"), rank, CORE));
    }
    let image = |text: &str| {
        let mut image = Image::new_zeroed();
        image.name = name(text);
        image.module = name(text);
        image.memory_bytes = 16 << 20;
        image.rx_slots = 256;
        image.tx_slots = 256;
        image.args[..7].copy_from_slice(b"log=off");
        image.rate = abi::share::UNLIMITED;
        image.burst = abi::share::BURST;
        image.weight = abi::share::WEIGHT;
        image.net = ANY;
        image.pager = ANY;
        image
    };
    let images = [image("httpd"), image("hostile")];
    let mut header = Header::new_zeroed();
    header.components = count(&components);
    header.rings = count(&rings);
    header.images = count(&images);
    header.defaults[..16].copy_from_slice(b"vms=httpd*8 log=");
    header.defaults[16..20].copy_from_slice(b"info");
    let whole = [header.as_bytes(), components.as_bytes(), rings.as_bytes(), images.as_bytes()].concat();
    vec![whole, Header::new_zeroed().as_bytes().to_vec()]
}

/// A program header: type, flags, offset, address, bytes in the file, bytes in memory.
type Program = (u32, u32, u64, u64, u64, u64);

fn program(kind: u32, base: u64, hole: bool) -> Vec<u8> {
    const NOTE_AT: u64 = 0xf00;
    let mut programs: Vec<Program> = vec![
        (4, 4, NOTE_AT, 0, 28, 28),
        (1, 5, 0x1000, base, 0x800, 0x800),
        (1, 4, 0x2000, base + 0x1000, 0x800, 0x800),
        (1, 6, 0x3000, base + 0x2000, 0x10, 0x3000),
    ];
    if hole {
        programs.push((1, 0, 0, base + 0x5000, 0, 0x1_0000));
    }
    let mut file = vec![0; 0x3010];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, 2_u16.as_bytes());
    put(18, 62_u16.as_bytes());
    put(24, (base + 0x10).as_bytes());
    put(32, 64_u64.as_bytes());
    put(54, 56_u16.as_bytes());
    put(56, u16::try_from(programs.len()).unwrap_or(0).as_bytes());
    for (i, &(kind, flags, offset, address, file_bytes, memory_bytes)) in programs.iter().enumerate() {
        let at = 64 + 56 * i;
        put(at, [kind, flags].as_bytes());
        put(at + 8, [offset, address, address, file_bytes, memory_bytes, 4096].as_bytes());
    }
    put(0xf00, Note::new(kind).as_bytes());
    file
}

/// A component and a guest.
pub fn programs() -> Vec<Vec<u8>> {
    vec![program(KIND_COMPONENT, layout::IMAGE_BASE, false), program(KIND_GUEST, abi::guest::IMAGE_BASE, true)]
}

/// Lines of options; the byte 255 parts the defaults from the command line.
pub fn options() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 5] = [
        b"vms=httpd*8 net=dhcp log=info sched=stride\xffquantum=10ms on-fatal=poweroff",
        b"net=10.0.2.16/24,gw=10.0.2.2 slots=2^20 seats=65535 node=67108863",
        b"net=drr selftest=entry-failure quantum=1s vms=httpd*4,hostile",
        b"net=10.0.2.16/30 selftest=wx quantum=10us sched=round-robin vms=",
        b"log=trace on-fatal=halt slots=1 selftest=none",
    ];
    lines.iter().map(|line| line.to_vec()).collect()
}

/// The tags that GRUB leaves on a PC, and those of a UEFI machine with a framebuffer.
pub fn information() -> Vec<Vec<u8>> {
    let tag = |kind: u32, body: &[u8]| {
        let len = u32::try_from(8 + body.len()).unwrap_or(8);
        let mut tag = [kind.as_bytes(), len.as_bytes(), body].concat();
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    };
    let module =
        |text: &str, start: u32, end: u32| tag(3, &[start.as_bytes(), end.as_bytes(), text.as_bytes(), b"\0"].concat());
    let area =
        |start: u64, bytes: u64, kind: u32| [start.as_bytes(), bytes.as_bytes(), kind.as_bytes(), &[0; 4]].concat();
    let map = tag(
        6,
        &[
            [24_u32, 0].as_bytes(),
            &area(0, 0x9_fc00, 1),
            &area(0x9_fc00, 0x6_0400, 2),
            &area(0x10_0000, 127 << 20, 1),
            &area(0x800_0000, 0x1_0000, 3),
            &area(1 << 32, 1 << 32, 1),
        ]
        .concat(),
    );
    // RSDP of revision 0 and 2, with their checksums.
    let mut old = *b"RSD PTR \0FORAKE\0\0\0\x0f\0";
    old[8] = 0_u8.wrapping_sub(old.iter().fold(0, |sum, byte| sum.wrapping_add(*byte)));
    let pixels =
        [0x8000_0000_u64.as_bytes(), [4096_u32, 1024, 768].as_bytes(), &[32, 1, 0, 0, 16, 8, 8, 8, 0, 8]].concat();
    let line = tag(1, b"vms=httpd*8 on-fatal=poweroff\0");
    let modules = [module("manifest", 0x40_0000, 0x40_1234), module("netmux arguments", 0x41_0000, 0x42_0000)].concat();
    let pc = [line, modules.clone(), map.clone(), tag(14, &old), tag(0, b"")].concat();
    let uefi = [modules, map, tag(8, &pixels), tag(12, &[0; 8]), tag(0, b"")].concat();
    vec![pc, uefi]
}

/// Calls of the frame table: [`base::memory::frames_fuzz::frames`] says what each pair of bytes means.
pub fn frame_calls() -> Vec<Vec<u8>> {
    let fill: Vec<u8> = (0..120_u8).flat_map(|i| [i % 2, i.wrapping_mul(37)]).collect();
    let mixed: Vec<u8> = (0..120_u8).flat_map(|i| [i % 5, i.wrapping_mul(91)]).collect();
    vec![fill, mixed, vec![0, 0, 0, 1, 2, 1, 2, 0, 18, 0x7f, 2, 3, 3, 3, 0, 9, 4, 64, 4, 30]]
}
