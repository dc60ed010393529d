use super::manifest::{Manifest, ManifestError, padded_text};
use abi::flow::Flow;
use abi::limits::MAX_TENANTS;
use abi::limits::{MAX_POLICIES, Name};
use abi::manifest::{
    ANY, CORE, Component, Header, IMAGE_ARGS_BYTES, Image, MAGIC, ModuleDigest, NONE, Policy, Ring, checksum,
};
use abi::quota::{Quota, TenantQuota};
use abi::service::Service;
use proptest::prelude::*;
use zerocopy::IntoBytes;

pub fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

pub fn component(role: &str, priority: u32) -> Component {
    let mut policies = [Policy { name: Name::EMPTY, module: Name::EMPTY }; MAX_POLICIES];
    policies[0] = Policy { name: name("plain"), module: name("plain-module") };
    policies[1] = Policy { name: name("fancy"), module: name("fancy-module") };
    Component {
        name: name(role),
        policies,
        policy_count: 2,
        priority,
        budget_us: 1_000,
        stack_pages: 4,
        memory_pages: 256,
        dma_pages: 0,
        pci_class: NONE,
        port_first: 0,
        port_count: 0,
        port_irq: NONE,
        keep_pages: 0,
        flags: 0,
        reserved: 0,
    }
}

pub fn ring(text: &str, producer: u32, consumer: u32) -> Ring {
    let with_core = producer == CORE || consumer == CORE;
    let service = if with_core { Service::Plan.raw() } else { Service::NONE };
    Ring { name: name(text), producer, consumer, slots: 64, service, data_pages: 0, reserved: 0 }
}

pub fn image(text: &str) -> Image {
    let args = [0; IMAGE_ARGS_BYTES];
    Image {
        name: name(text),
        module: name(text),
        memory_bytes: 16 << 20,
        rx_slots: 256,
        tx_slots: 256,
        args,
        rate: abi::share::UNLIMITED,
        burst: abi::share::BURST,
        weight: abi::share::WEIGHT,
        net: ANY,
        pager: ANY,
        flags: 0,
        reserve_frames: abi::claim::RESERVE_LEAST,
        limit_frames: 300,
        tenant: 0,
        reserved: 0,
        disk: abi::attachment::Attachment::NONE,
        reserved2: 0,
    }
}

/// Parts of a manifest, to be spoilt.
struct Parts {
    components: Vec<Component>,
    rings: Vec<Ring>,
    images: Vec<Image>,
    modules: Vec<ModuleDigest>,
    tenants: Vec<TenantQuota>,
}

fn good() -> Parts {
    Parts {
        components: vec![component("sched", 2), component("pager", 1)],
        rings: vec![ring("core-sched", CORE, 0), ring("sched-core", 0, CORE), ring("a", 0, 1)],
        images: vec![image("httpd"), image("hostile")],
        modules: ["httpd", "core-vmx"]
            .map(|text| ModuleDigest { name: name(text), bytes: 9, digest: [7; 16] })
            .to_vec(),
        tenants: vec![TenantQuota::new(1, Quota { vms: 3, ..Quota::NONE }, Flow::NONE)],
    }
}

/// The manifest, aligned as the boot loader aligns it.
fn bytes(parts: &Parts) -> Vec<u64> {
    let Parts { components, rings, images, modules, tenants } = parts;
    let body =
        [components.as_bytes(), rings.as_bytes(), images.as_bytes(), modules.as_bytes(), tenants.as_bytes()].concat();
    let count = |n: usize| u32::try_from(n).expect("few");
    let mut defaults = [0; 256];
    defaults[..8].copy_from_slice(b"net=dhcp");
    let header = Header {
        magic: MAGIC,
        abi_version: abi::ABI_VERSION,
        bytes: count(size_of::<Header>() + body.len()),
        checksum: checksum(&body),
        components: count(parts.components.len()),
        rings: count(parts.rings.len()),
        images: count(parts.images.len()),
        modules: count(parts.modules.len()),
        tenants: count(parts.tenants.len()),
        defaults,
    };
    let mut words = vec![0; (size_of::<Header>() + body.len()).div_ceil(8) + 4];
    let all = words.as_mut_bytes();
    all[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    all[size_of::<Header>()..size_of::<Header>() + body.len()].copy_from_slice(&body);
    words
}

fn why(spoil: impl FnOnce(&mut Parts)) -> String {
    let mut parts = good();
    spoil(&mut parts);
    Manifest::parse(bytes(&parts).as_bytes()).expect_err("must be refused").to_string()
}

#[test]
fn a_good_manifest() {
    let words = bytes(&good());
    let manifest = Manifest::parse(words.as_bytes()).expect("good");
    assert_eq!(manifest.components, good().components);
    assert_eq!((manifest.rings, manifest.images), (&good().rings[..], &good().images[..]));
    assert_eq!((manifest.defaults, manifest.tenants), ("net=dhcp", &good().tenants[..]));
    for more in 0..2 {
        let mut parts = good();
        parts.rings.extend((0..more).map(|_| ring("b", 1, 0)));
        parts.rings[2].data_pages = 64;
        let words = bytes(&parts);
        let manifest = Manifest::parse(words.as_bytes()).expect("however many rings there are");
        assert_eq!((manifest.rings.len(), manifest.rings[2].data_pages), (3 + more, 64));
    }
}

#[test]
fn bad_quotas() {
    let told = TenantQuota::new(2, Quota { vms: 0, ..Quota::NONE }, Flow::NONE);
    assert_eq!(why(|p| p.tenants.push(TenantQuota { tenant: 0, ..told })), "tenant 1: it has no name");
    assert_eq!(why(|p| p.tenants.push(TenantQuota { tenant: 38, ..told })), "tenant 1: it has no name");
    assert_eq!(why(|p| p.tenants.push(TenantQuota { tenant: 1, ..told })), "tenant 1: its name is taken");
    let quota = |quota, flow| TenantQuota::new(2, quota, flow);
    assert_eq!(why(|p| p.tenants.push(quota(Quota::NONE, Flow::NONE))), "tenant 1: its quota says nothing");
    for flow in [Flow { wakes: Flow::STAYS, ..Flow::NONE }, Flow { rate: Flow::STAYS, ..Flow::NONE }] {
        assert_eq!(why(|p| p.tenants.push(quota(Quota::NONE, flow))), "tenant 1: it may do too much in a second");
    }
    for told in [quota(Quota { pool: 0, ..Quota::NONE }, Flow::NONE), quota(Quota::NONE, Flow { wakes: 1, rate: 0 })] {
        let mut parts = good();
        parts.tenants.push(told);
        let words = bytes(&parts);
        assert_eq!(Manifest::parse(words.as_bytes()).expect("it says something").tenants.last(), Some(&told));
    }
    let many = |p: &mut Parts| p.tenants.resize(MAX_TENANTS + 1, told);
    assert_eq!(why(many), "it has 65 tenants, more than this core takes");
}

#[test]
fn bad_entries() {
    assert_eq!(why(|p| p.components[1].name = name("sched")), "component 1: its name is taken");
    assert_eq!(why(|p| p.components[1].name = Name::EMPTY), "component 1: a name is empty or not a name");
    assert_eq!(why(|p| p.components[0].name.0 = [0xff; 16]), "component 0: a name is empty or not a name");
    assert_eq!(why(|p| p.components[0].name.0[8] = b'x'), "component 0: a name is empty or not a name");
    assert_eq!(why(|p| p.components[0].name = name("a=b")), "component 0: a name is empty or not a name");
    assert_eq!(why(|p| p.components[1].priority = 2), "component 1: its priority is taken");
    assert_eq!(why(|p| p.components[0].policy_count = 0), "component 0: it must have 1 to 8 policies");
    assert_eq!(why(|p| p.components[0].policy_count = 9), "component 0: it must have 1 to 8 policies");
    assert_eq!(why(|p| p.components[0].policy_count = 3), "component 0: a name is empty or not a name");
    let twice = |p: &mut Parts| p.components[0].policies[1].name = name("plain");
    assert_eq!(why(twice), "component 0: two policies have the same name");
    assert_eq!(why(|p| p.components[0].budget_us = 0), "component 0: its budget is zero");
    assert_eq!(why(|p| p.components[0].stack_pages = 0), "component 0: its stack is empty or too large");
    assert_eq!(why(|p| p.components[0].stack_pages = u32::MAX), "component 0: its stack is empty or too large");
    assert_eq!(why(|p| p.components[0].memory_pages = u32::MAX), "component 0: its memory is empty or too large");
    assert_eq!(why(|p| p.components[0].dma_pages = u32::MAX), "component 0: its DMA memory is too large");
    assert_eq!(why(|p| p.components[0].pci_class = 0x1_0000), "component 0: its PCI class is not a class");
    let ports = |p: &mut Parts| (p.components[0].port_first, p.components[0].port_count) = (0xffff, 2);
    assert_eq!(why(ports), "component 0: its ports are out of range");
    let irq = "component 0: its port interrupt is not an ISA interrupt";
    assert_eq!(why(|p| p.components[0].port_irq = 16), irq);
    let rings = |p: &mut Parts| p.rings = (0..9).map(|i| ring(&format!("r{i}"), 0, CORE)).collect();
    assert_eq!(why(rings), "component 0: it is an end of too many rings");

    assert_eq!(why(|p| p.rings[1].name = p.rings[0].name), "ring 1: its name is taken");
    assert_eq!(why(|p| p.rings[1].producer = 2), "ring 1: it names a component that is not there");
    assert_eq!(why(|p| p.rings[1].producer = CORE), "ring 1: its two ends are the same");
    assert_eq!(why(|p| p.rings[1].slots = 0), "ring 1: its slots are not a power of two up to 4096");
    assert_eq!(why(|p| p.rings[1].slots = 8192), "ring 1: its slots are not a power of two up to 4096");
    let unknown = "ring 1: it is about a service that this core does not know";
    assert_eq!(why(|p| p.rings[1].service = 0), unknown);
    assert_eq!(why(|p| p.rings[1].service = 7), unknown);
    assert_eq!(why(|p| p.rings[2].service = 1), "ring 2: it is about a service, and the core is not its end");
    assert_eq!(why(|p| p.rings[1].service = 1), "component 0: a service takes a pair of rings");
    assert_eq!(why(|p| p.rings[1].data_pages = 1), "ring 1: it has data, and the core is an end");
    assert_eq!(why(|p| p.rings[2].data_pages = 128), "ring 2: it is too large");
    assert_eq!(why(|p| p.rings[2].reserved = 1), "ring 2: it has words that nobody knows");
    let again = |p: &mut Parts| p.rings.push(Ring { name: name("again"), ..p.rings[1] });
    assert_eq!(why(again), "component 0: a service takes a pair of rings");

    assert_eq!(why(|p| p.images[1].name = name("httpd")), "image 1: its name is taken");
    assert_eq!(why(|p| p.images[1].memory_bytes = 4096), "image 1: its memory is not from 1 MiB to 1 GiB");
    assert_eq!(why(|p| p.images[1].memory_bytes += 1), "image 1: its memory is not whole pages");
    assert_eq!(why(|p| p.images[1].rx_slots = 0), "image 1: its NIC slots are not powers of two");
    assert_eq!(why(|p| p.images[1].rx_slots = 1 << 31), "image 1: its NIC has too many slots");
    assert_eq!(why(|p| p.images[1].args[5] = 7), "image 1: its boot arguments are not text");
    for spoil in [
        |p: &mut Parts| p.images[1].weight = 0,
        |p: &mut Parts| p.images[1].weight = abi::share::WEIGHT_MAX + 1,
        |p: &mut Parts| p.images[1].rate = 0,
        |p: &mut Parts| p.images[1].burst = abi::share::BURST_MIN - 1,
    ] {
        assert_eq!(why(spoil), "image 1: its weight, rate or burst is beyond its limits");
    }
    for lie in [|p: &mut Parts| p.images[1].tenant = 38, |p: &mut Parts| p.images[1].reserved = 1] {
        assert_eq!(why(lie), "image 1: its tenant has no name");
    }
    assert_eq!(why(|p| p.images[1].flags = 8), "image 1: it has flags that this core does not know");
    let why_lazy = "image 1: its VMs start with the first packet, and get none or control the machine";
    assert_eq!(why(|p| p.images[1].flags = 3), why_lazy);
    assert_eq!(why(|p| p.images[1].flags = 4), "image 1: its VMs read virtual disks, and do not control the machine");
    for number in [0, 2, ANY - 1] {
        assert_eq!(why(|p| p.images[1].net = number), "image 1: it names a demultiplexer that is none");
        assert_eq!(why(|p| p.images[1].pager = number), "image 1: it names a pager that is none");
    }
    let none = |p: &mut Parts| (p.images[1].rx_slots, p.images[1].tx_slots) = (0, 0);
    let mut parts = good();
    none(&mut parts);
    assert!(Manifest::parse(bytes(&parts).as_bytes()).is_ok());
}

/// `good` with another party to this service.
fn with_second(service: Service) -> Parts {
    let mut parts = good();
    parts.rings[..2].iter_mut().for_each(|ring| ring.service = service.raw());
    parts.rings.extend([ring("core-pager", CORE, 1), ring("pager-core", 1, CORE)]);
    parts.rings[3..].iter_mut().for_each(|ring| ring.service = service.raw());
    parts
}

#[test]
fn every_service_but_the_plan_has_room_for_a_second_party() {
    for service in [Service::Net, Service::Pager, Service::Control] {
        assert!(Manifest::parse(bytes(&with_second(service)).as_bytes()).is_ok(), "{service:?}");
    }
    let twice = Manifest::parse(bytes(&with_second(Service::Plan)).as_bytes()).expect_err("one plan for a CPU");
    assert_eq!(twice.to_string(), "component 1: it is the second party to a service that takes one only");
}

#[test]
fn an_image_may_name_who_serves_its_vms() {
    for (service, net, pager) in [(Service::Net, 1, ANY), (Service::Pager, ANY, 0)] {
        let mut parts = with_second(service);
        (parts.images[1].net, parts.images[1].pager) = (net, pager);
        assert!(Manifest::parse(bytes(&parts).as_bytes()).is_ok(), "{service:?}");
    }
}

#[test]
fn bad_counts_and_headers() {
    assert_eq!(why(|p| p.images = vec![image("x"); 17]), "it has 17 images, more than this core takes");
    let words = bytes(&good());
    let with = |change: &dyn Fn(&mut [u8])| {
        let mut words = words.clone();
        change(words.as_mut_bytes());
        Manifest::parse(words.as_bytes()).expect_err("must be refused")
    };
    assert_eq!(with(&|b| b[0] = 0), ManifestError::BadMagic);
    assert_eq!(with(&|b| b[8] = 9), ManifestError::BadVersion(9));
    assert_eq!(with(&|b| b[300] ^= 1), ManifestError::BadChecksum);
    assert_eq!(with(&|b| b[12..16].fill(0xff)), ManifestError::Truncated);
    assert_eq!(with(&|b| b[12..16].fill(0)), ManifestError::Truncated);
    assert_eq!(with(&|b| b[20] = 3), ManifestError::Truncated);
    assert_eq!(with(&|b| b[24] = 255), ManifestError::TooMany("rings", 255));
    assert_eq!(with(&|b| b[40] = 1), ManifestError::BadDefaults);
    assert_eq!(Manifest::parse(&words.as_bytes()[..100]).expect_err("short"), ManifestError::Truncated);
    assert_eq!(Manifest::parse(&words.as_bytes()[..400]).expect_err("short"), ManifestError::Truncated);
    assert_eq!(Manifest::parse(&words.as_bytes()[1..]).expect_err("odd"), ManifestError::Misaligned);
}

#[test]
fn text() {
    assert_eq!(padded_text(b"a b\0\0"), Some("a b"));
    assert_eq!(padded_text(b"full"), Some("full"));
    assert_eq!(padded_text(b"a\0b"), None);
    assert_eq!(padded_text(b"a\n"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Damaged manifests, with a checksum that fits: no panic, and what is accepted keeps its promises.
    #[test]
    fn hostile_bytes(places in prop::collection::vec((16_usize..1_300, any::<u8>()), 1..12)) {
        let mut words = bytes(&good());
        let all = words.as_mut_bytes();
        for (at, value) in places {
            if let Some(byte) = all.get_mut(at) {
                *byte = value;
            }
        }
        let length = usize::try_from(u32::from_le_bytes(all[12..16].try_into().expect("four"))).expect("small");
        let sum = checksum(&all[size_of::<Header>()..length]);
        all[16..20].copy_from_slice(&sum.to_le_bytes());
        if let Ok(manifest) = Manifest::parse(all) {
            for ring in manifest.rings {
                for end in [ring.producer, ring.consumer] {
                    prop_assert!(end == CORE || (end as usize) < manifest.components.len());
                }
            }
            for component in manifest.components {
                prop_assert!((1..=4).contains(&component.policy_count));
            }
        }
    }
}
