//! What fuzzers feed to the readers of what the boot loader left. A target panics when a reader does, and when a reader has let
//! something pass that the rest of the core takes for excluded; it returns whether the reader was content.

use super::information;
use super::manifest::Manifest;
use super::options::{Known, Options};
use crate::map::{LOW_MEMORY_END, Piece};
use abi::component::layout;
use abi::limits::{
    MAX_COMPONENTS, MAX_IMAGES, MAX_POLICIES, MAX_RINGS, MAX_RINGS_PER_COMPONENT, MAX_SLOTS, PAGE_SIZE, VM_MEMORY_MAX,
    VM_MEMORY_MIN,
};
use abi::manifest::{CORE, Component, Header, Image, MAGIC, Ring, checksum};
use abi::note::{KIND_COMPONENT, KIND_GUEST, NOTE_NAME};
use abi::service::Service;
use elf_file::{Accept, Elf};
use multiboot2::BootInformation;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

/// Bytes of boot information that are looked at: more takes time and adds nothing.
const INFORMATION_BYTES: usize = 8192;

/// `bytes` at an address that is a multiple of 8.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    words
}

/// A manifest, as it is and with magic, version, length and checksum set right: what a flipped bit does the checksum finds, so
/// behind it stands whoever made the manifest.
pub fn manifest(data: &[u8]) -> bool {
    let mut words = aligned(data);
    let as_it_is = judge_manifest(&words.as_bytes()[..data.len()]);
    let bytes = &mut words.as_mut_bytes()[..data.len()];
    if let (Some(body), Ok(length)) = (bytes.get(size_of::<Header>()..), u32::try_from(bytes.len())) {
        let sum = checksum(body);
        let mut head = [MAGIC.as_bytes(), abi::ABI_VERSION.as_bytes(), length.as_bytes(), sum.as_bytes()].concat();
        head.truncate(bytes.len());
        bytes[..head.len()].copy_from_slice(&head);
    }
    judge_manifest(&words.as_bytes()[..data.len()]) || as_it_is
}

fn judge_manifest(bytes: &[u8]) -> bool {
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let (components, rings, images) = (manifest.components, manifest.rings, manifest.images);
    assert!(components.len() <= MAX_COMPONENTS && rings.len() <= MAX_RINGS && images.len() <= MAX_IMAGES);
    let names: BTreeSet<&str> = components.iter().map(|component| component.name.as_str()).collect();
    assert!(names.len() == components.len() && names.iter().all(|name| is_name(name)), "components: {names:?}");
    let priorities: BTreeSet<u32> = components.iter().map(|component| component.priority).collect();
    assert_eq!(priorities.len(), components.len(), "two components have one priority");
    for (rank, component) in components.iter().enumerate() {
        judge_component(component);
        let rank = u32::try_from(rank).unwrap_or(CORE);
        let ends = rings.iter().filter(|ring| ring.producer == rank || ring.consumer == rank).count();
        assert!(ends <= MAX_RINGS_PER_COMPONENT, "{ends} rings end at one component");
    }
    for ring in rings {
        let is_there = |end: u32| end == CORE || components.get(end as usize).is_some();
        assert!(is_there(ring.producer) && is_there(ring.consumer) && ring.producer != ring.consumer, "{ring:?}");
        assert!(ring.slots.is_power_of_two() && abi::ring::ring_bytes(ring.slots) <= layout::RING_STRIDE, "{ring:?}");
    }
    let names: BTreeSet<&str> = images.iter().map(|image| image.name.as_str()).collect();
    assert!(names.len() == images.len() && names.iter().all(|name| is_name(name)), "images: {names:?}");
    images.iter().for_each(judge_image);
    // What the manifest says is read further as options.
    judge_options(manifest.defaults, "", Known { components, rings, images });
    true
}

fn judge_component(component: &Component) {
    let policies = component.policies.get(..component.policy_count as usize).expect("as many policies as there can be");
    assert!(!policies.is_empty() && policies.len() <= MAX_POLICIES);
    assert!(policies.iter().all(|policy| is_name(policy.name.as_str()) && is_name(policy.module.as_str())));
    let pages = |pages: u32| u64::from(pages) * PAGE_SIZE;
    // Each region ends where the next begins, at the latest; below the stack is a guard.
    assert!(layout::INFO + PAGE_SIZE < layout::STACK_TOP - pages(component.stack_pages), "the stack has no guard");
    assert!(layout::IMAGE_BASE + pages(component.memory_pages) <= layout::IMAGE_END);
    assert!(layout::DMA + pages(component.dma_pages) <= layout::VM_WINDOW);
    assert!(layout::KEEP + pages(component.keep_pages) <= layout::KEEP_END);
    assert!(u32::from(component.port_first) + u32::from(component.port_count) <= 1 << 16);
    assert!(component.budget_us > 0);
}

fn judge_image(image: &Image) {
    assert!(is_name(image.module.as_str()));
    assert!(
        (VM_MEMORY_MIN..=VM_MEMORY_MAX).contains(&image.memory_bytes) && image.memory_bytes.is_multiple_of(PAGE_SIZE)
    );
    let pages = abi::nic::nic_pages(image.rx_slots, image.tx_slots);
    let none = image.rx_slots == 0 && image.tx_slots == 0;
    assert!(none || abi::guest::NIC_BASE + pages * PAGE_SIZE <= abi::guest::IMAGE_BASE, "{pages} pages of NIC");
    assert!(none || image.rx_slots.is_power_of_two() && image.tx_slots.is_power_of_two());
    assert!(image.share().is_valid());
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An ELF file, taken for a component's and for a guest's, with the version in its notes set right.
pub fn elf(data: &[u8]) -> bool {
    let mut file = data.to_vec();
    let places: Vec<usize> =
        file.windows(NOTE_NAME.len()).enumerate().filter(|(_, name)| **name == NOTE_NAME).map(|(at, _)| at).collect();
    for at in places {
        if let Some(version) = file.get_mut(at + NOTE_NAME.len()..at + NOTE_NAME.len() + 4) {
            version.copy_from_slice(abi::ABI_VERSION.as_bytes());
        }
    }
    let component = Accept { low: layout::IMAGE_BASE, high: layout::IMAGE_END, kind: KIND_COMPONENT };
    let guest = Accept { low: abi::guest::IMAGE_BASE, high: abi::guest::IMAGE_BASE + (16 << 20), kind: KIND_GUEST };
    let (as_component, as_guest) = (judge_elf(&file, component), judge_elf(&file, guest));
    as_component || as_guest
}

fn judge_elf(file: &[u8], accept: Accept) -> bool {
    let elf = match Elf::parse(file, accept) {
        Ok(elf) => elf,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    for (i, segment) in elf.segments.iter().enumerate() {
        assert!(segment.address >= accept.low && segment.end() <= accept.high, "{segment:?} is out of range");
        assert!(!(segment.write && segment.execute), "{segment:?} can be written and executed");
        assert!(segment.file_bytes <= segment.memory_bytes, "{segment:?}");
        assert!(
            segment.address.is_multiple_of(PAGE_SIZE) && segment.file_offset.is_multiple_of(PAGE_SIZE),
            "{segment:?}"
        );
        let end = u128::from(segment.file_offset) + u128::from(segment.file_bytes);
        assert!(end <= file.len() as u128, "{segment:?} ends behind the file");
        assert!(!segment.hole || accept.kind == KIND_GUEST && segment.file_bytes == 0, "{segment:?}");
        let shares = |other: &elf_file::Segment| segment.address < other.end() && other.address < segment.end();
        assert!(!elf.segments[..i].iter().any(shares), "{segment:?} shares a page with another");
    }
    let entry = |segment: &&elf_file::Segment| segment.execute && (segment.address..segment.end()).contains(&elf.entry);
    assert!(elf.segments.iter().find(entry).is_some(), "the entry is in no code");
    true
}

/// Boot options: defaults and command line, parted by the first byte that is no text.
pub fn options(data: &[u8]) -> bool {
    let end = data.iter().position(|byte| !byte.is_ascii()).unwrap_or(data.len());
    let (defaults, line) = data.split_at(end);
    let line = line.get(1..).unwrap_or_default();
    let (Ok(defaults), Ok(line)) = (str::from_utf8(defaults), str::from_utf8(line)) else { return false };
    let mut component = Component::new_zeroed();
    component.name = name("sched");
    component.policies[0].name = name("round-robin");
    component.policies[1].name = name("stride");
    component.policy_count = 2;
    let mut netmux = component;
    netmux.name = name("netmux");
    netmux.policies[0].name = name("drr");
    let mut to_netmux = Ring::new_zeroed();
    (to_netmux.producer, to_netmux.consumer, to_netmux.service) = (CORE, 1, Service::Net.raw());
    let from_netmux = Ring { producer: 1, consumer: CORE, ..to_netmux };
    let rings = [to_netmux, from_netmux];
    let mut images = [Image::new_zeroed(), Image::new_zeroed()];
    images[0].name = name("httpd");
    images[1].name = name("hostile");
    judge_options(defaults, line, Known { components: &[component, netmux], rings: &rings, images: &images })
}

fn name(text: &str) -> abi::limits::Name {
    abi::limits::Name::new(text).unwrap_or(abi::limits::Name::EMPTY)
}

fn judge_options(defaults: &str, line: &str, known: Known<'_>) -> bool {
    Options::early_on_fatal(line);
    let options = match Options::parse(defaults, line, known) {
        Ok(options) => options,
        Err(error) => {
            let text = error.to_string();
            // It goes to an operator's terminal as it is.
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
            assert!(text.len() < 2048, "{} bytes of message", text.len());
            return false;
        }
    };
    let vms: u64 = options.vms.iter().map(|request| u64::from(request.count)).sum();
    assert!(vms <= MAX_SLOTS as u64, "{vms} VMs");
    assert!(options.vms.iter().all(|request| request.count > 0 && (request.image as usize) < known.images.len()));
    assert!(options.slots.is_none_or(|slots| (1..=MAX_SLOTS).contains(&(slots as usize))));
    assert!((10_000..=1_000_000_000).contains(&options.quantum_ns));
    for (component, &policy) in known.components.iter().zip(&options.policies) {
        assert!(policy < component.policy_count as usize, "policy {policy} of {}", component.name.as_str());
    }
    true
}

/// The boot loader's information: the tags behind the eight bytes of its header, with the length set right.
pub fn multiboot(data: &[u8]) -> bool {
    let data = &data[..data.len().min(INFORMATION_BYTES)];
    let mut words = aligned(data);
    words.insert(0, 0);
    let as_it_is = judge_information(words.clone());
    // The mark at the end.
    words.push(8 << 32);
    judge_information(words) || as_it_is
}

fn judge_information(mut words: Vec<u64>) -> bool {
    words[0] = words.len() as u64 * 8;
    let memory = Box::into_raw(words.into_boxed_slice());
    // SAFETY: the length is that of the memory, which lives and is not written until it is freed below.
    let content = match unsafe { information::load(memory.cast()) } {
        Ok(found) => judge_tags(&found),
        Err(_) => false,
    };
    // SAFETY: it was made above, and what was read from it is gone.
    drop(unsafe { Box::from_raw(memory) });
    content
}

fn judge_tags(found: &BootInformation<'static>) -> bool {
    const ADDRESS: u32 = 0x1_0000;
    information::screen(found);
    let line = information::line(found);
    let information = match information::read(found, ADDRESS) {
        Ok(information) => information,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return false;
        }
    };
    assert_eq!(information.line, line.unwrap_or(""));
    let mut used: Vec<Piece> = Vec::new();
    used.push(Piece { start: information.own.start, end: information.own.end });
    for module in information.modules.iter() {
        let piece = Piece { start: module.start.as_u64(), end: module.end() };
        assert!(
            is_name(module.name.as_str()) && piece.start < piece.end && piece.start.is_multiple_of(PAGE_SIZE),
            "{module:?}"
        );
        assert!(!used[1..].iter().any(|other| piece.start < other.end && other.start < piece.end), "{module:?}");
        used.push(piece);
    }
    let free = information.areas.free_pieces(&used);
    let mut last = LOW_MEMORY_END;
    for piece in &free {
        assert!(piece.start >= last && piece.start < piece.end && piece.end <= information.areas.end(), "{free:?}");
        assert!(!used.iter().any(|other| piece.start < other.end && other.start < piece.end), "{piece:?} is in use");
        last = piece.end;
    }
    let mut last = None;
    for piece in information.areas.direct_map() {
        assert!(piece.start < piece.end && last.is_none_or(|last| last < piece.start));
        last = Some(piece.end);
    }
    true
}
