//! The binary manifest (`abi::manifest`) of a checked system.

use super::model::{self, Component, Image, Ring, Start, System};
use abi::attachment::Attachment;
use abi::flow::Flow;
use abi::limits::{MAX_POLICIES, Name, PAGE_SIZE};
use abi::manifest::{
    self, ANY, CORE, DEFAULTS_BYTES, Header, IMAGE_ARGS_BYTES, ModuleDigest, NONE, component_flags, image_flags,
};
use abi::quota::{Quota, TenantQuota};
use abi::service::Service;
use abi::share;
use abi::tenant::Tenant;
use zerocopy::IntoBytes;

/// Compiles `system`, which `check` has found good: a value that does not fit is a mistake there, not the user's. `modules` are the boot
/// modules as they will be loaded.
pub fn compile(system: &System, modules: &[ModuleDigest]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in &system.component {
        body.extend_from_slice(component(entry).as_bytes());
    }
    for entry in &system.ring {
        body.extend_from_slice(ring(entry, system).as_bytes());
    }
    for entry in &system.image {
        body.extend_from_slice(image(entry, system).as_bytes());
    }
    body.extend_from_slice(modules.as_bytes());
    let tenants: Vec<TenantQuota> = system.tenant.iter().filter_map(tenant).collect();
    body.extend_from_slice(tenants.as_bytes());
    let header = Header {
        magic: manifest::MAGIC,
        abi_version: abi::ABI_VERSION,
        bytes: number(size_of::<Header>() + body.len()),
        checksum: manifest::checksum(&body),
        components: number(system.component.len()),
        rings: number(system.ring.len()),
        images: number(system.image.len()),
        modules: number(modules.len()),
        tenants: number(tenants.len()),
        defaults: text::<DEFAULTS_BYTES>(&system.defaults),
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

/// What the manifest says of a module.
pub fn digest(module: &str, bytes: &[u8]) -> ModuleDigest {
    ModuleDigest { name: name(module), bytes: number(bytes.len()), digest: manifest::digest(bytes) }
}

fn component(entry: &Component) -> manifest::Component {
    let programs = entry.programs();
    let mut policies = [manifest::Policy { name: Name::EMPTY, module: Name::EMPTY }; MAX_POLICIES];
    for (slot, program) in policies.iter_mut().zip(&programs) {
        *slot = manifest::Policy { name: name(&program.name), module: name(&program.module) };
    }
    let ports = entry.ports.as_ref();
    manifest::Component {
        name: name(&entry.name),
        policies,
        policy_count: number(programs.len()),
        priority: entry.priority,
        budget_us: number(entry.budget.0),
        stack_pages: number(entry.stack.0 / PAGE_SIZE),
        memory_pages: number(entry.memory.0 / PAGE_SIZE),
        dma_pages: number(entry.dma.map_or(0, |dma| dma.0) / PAGE_SIZE),
        pci_class: entry.pci_class.map_or(NONE, |class| class.0),
        port_first: ports.map_or(0, |ports| number(ports.first)),
        port_count: ports.map_or(0, |ports| number(ports.count)),
        port_irq: ports.and_then(|ports| ports.irq).unwrap_or(NONE),
        keep_pages: number(entry.keep.map_or(0, |keep| keep.0) / PAGE_SIZE),
        flags: if entry.optional { component_flags::OPTIONAL } else { 0 },
        reserved: 0,
    }
}

fn ring(entry: &Ring, system: &System) -> manifest::Ring {
    let end = |end: &str| {
        let index = system.component.iter().position(|component| component.name == end);
        index.map_or(CORE, number)
    };
    manifest::Ring {
        name: name(&entry.name),
        producer: end(&entry.from),
        consumer: end(&entry.to),
        slots: entry.slots,
        service: entry.service().map_or(Service::NONE, Service::raw),
        data_pages: number(entry.data.map_or(0, |data| data.0) / PAGE_SIZE),
        reserved: 0,
    }
}

fn image(entry: &Image, system: &System) -> manifest::Image {
    let server = |named: &Option<String>| match named {
        Some(named) => number(system.component.iter().position(|component| component.name == *named).expect("checked")),
        None => ANY,
    };
    manifest::Image {
        name: name(&entry.name),
        module: name(entry.module()),
        memory_bytes: entry.memory.0,
        rx_slots: entry.rx_slots,
        tx_slots: entry.tx_slots,
        args: text::<IMAGE_ARGS_BYTES>(&entry.args),
        weight: entry.weight.map_or(share::WEIGHT, number),
        rate: entry.rate.map_or(share::UNLIMITED, |rate| number(rate.0)),
        burst: entry.burst.map_or(share::BURST, |burst| number(burst.0)),
        net: server(&entry.net),
        pager: server(&entry.pager),
        flags: {
            let control = if entry.control { image_flags::CONTROL } else { 0 };
            let reads = if entry.reads_disks { image_flags::READS_DISKS } else { 0 };
            control | reads | if entry.start == Start::Lazy { image_flags::LAZY } else { 0 }
        },
        reserve_frames: number(entry.reserve_frames()),
        limit_frames: number(entry.limit_frames()),
        tenant: entry.tenant.as_deref().and_then(Tenant::new).unwrap_or_default().raw(),
        reserved: 0,
        disk: Attachment {
            rate: entry.disk_rate.and_then(|rate| u16::try_from(rate).ok()).unwrap_or(0),
            ..entry.disk.as_deref().and_then(Attachment::parse).unwrap_or(Attachment::NONE)
        },
        reserved2: 0,
    }
}

/// The quota of a tenant, where it has one of which the core knows.
fn tenant(entry: &model::Tenant) -> Option<TenantQuota> {
    let (quota, flow) = entry.of_core();
    let told = TenantQuota::new(Tenant::new(&entry.name).expect("checked").raw(), quota, flow);
    Some(told).filter(|_| (quota, flow) != (Quota::NONE, Flow::NONE))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("checked")
}

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn number<N, M>(number: N) -> M
where
    M: TryFrom<N>,
    M::Error: std::fmt::Debug,
{
    M::try_from(number).expect("checked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::load;
    use crate::workspace::root;
    use abi::swap_disk::{DATA_BYTES, REQUESTS};
    use zerocopy::FromBytes;

    #[test]
    fn what_is_compiled_reads_back() {
        let system = load(&root().join("system.toml")).unwrap();
        let bytes = compile(&system, &[digest("httpd", b"abc")]);
        let (header, rest) = Header::read_from_prefix(&bytes).unwrap();
        assert_eq!(header.bytes as usize, bytes.len());
        assert_eq!(header.checksum, manifest::checksum(rest));
        assert_eq!((header.components, header.rings), (6, 16));
        let (first, rest) = manifest::Component::read_from_prefix(rest).unwrap();
        assert_eq!(first.name.as_str(), "netmux");
        assert_eq!((first.pci_class, first.dma_pages, first.budget_us), (0x0200, 123, 50_000));
        assert_eq!(first.keep_pages, 1);
        assert_eq!(first.flags, 0);
        let (second, _) = manifest::Component::read_from_prefix(rest).unwrap();
        assert_eq!(second.name.as_str(), "diskmux");
        assert_eq!((second.pci_class, second.flags), (0x01ff, manifest::component_flags::OPTIONAL));
        let rest = &rest[5 * size_of::<manifest::Component>()..];
        let (ring, rest) = manifest::Ring::read_from_prefix(rest).unwrap();
        assert_eq!((ring.name.as_str(), ring.producer, ring.consumer), ("core-netmux", CORE, 0));
        assert_eq!(ring.service, Service::Net.raw());
        let (others, rest) = <[manifest::Ring; 15]>::read_from_prefix(rest).unwrap();
        let data: Vec<_> = others.iter().filter(|ring| ring.data_pages != 0).collect();
        assert_eq!(
            data.iter().map(|ring| (ring.name.as_str(), ring.data_pages)).collect::<Vec<_>>(),
            [(REQUESTS, 120)]
        );
        assert!(abi::ring::ring_bytes(data[0].slots) + DATA_BYTES as u64 == data[0].bytes());
        let (image, _) = manifest::Image::read_from_prefix(rest).unwrap();
        assert_eq!((image.name.as_str(), image.memory_bytes), ("httpd", 16 << 20));
        assert_eq!(image.share(), share::Share::DEFAULT);
        assert_eq!((image.net, image.pager), (ANY, ANY));
        let (module, _) = manifest::ModuleDigest::read_from_suffix(&bytes).map(|(_, module)| (module, ())).unwrap();
        assert_eq!((module.name.as_str(), module.bytes, header.modules), ("httpd", 3, 1));
        assert_eq!(module.digest, manifest::digest(b"abc"));
    }

    #[test]
    fn quotas_stand_behind_everything_else() {
        let mut system = load(&root().join("system.toml")).unwrap();
        let none = compile(&system, &[]);
        let told = model::Tenant::new;
        let all = [("vms", "3"), ("memory", "8MiB"), ("pool", "64K"), ("wakes", "5"), ("rate", "1M"), ("disk", "1G")];
        system.tenant = vec![told("blue", &all), told("red", &[("disk", "1M")]), told("green", &[("memory", "8M")])];
        let bytes = compile(&system, &[]);
        let (header, _) = Header::read_from_prefix(&bytes).unwrap();
        assert_eq!(
            (header.tenants, header.bytes as usize),
            (2, none.len() + 64),
            "of disks alone the core knows nothing"
        );
        let (_, read) = <[TenantQuota; 2]>::read_from_suffix(&bytes).unwrap();
        let raw = |name| Tenant::new(name).unwrap().raw();
        let quota = Quota { vms: 3, frames: 2048, pool: 64 << 10 };
        assert_eq!(
            read,
            [
                TenantQuota::new(raw("blue"), quota, Flow { wakes: 5, rate: 1 << 20 }),
                TenantQuota::new(raw("green"), Quota { frames: 2048, ..Quota::NONE }, Flow::NONE),
            ]
        );
    }

    #[test]
    fn no_image_controls_the_machine_unless_it_says_so() {
        let mut system = load(&root().join("system.toml")).unwrap();
        let flags = |system: &System| system.image.iter().map(|one| image(one, system).flags).collect::<Vec<_>>();
        let says = system
            .image
            .iter()
            .map(|one| if one.control { image_flags::CONTROL | image_flags::READS_DISKS } else { 0 });
        assert_eq!(flags(&system), says.collect::<Vec<_>>());
        let controls: Vec<&str> = system.image.iter().filter(|one| one.control).map(|one| one.name.as_str()).collect();
        assert_eq!(controls, ["supervisor-vm"]);
        system.image[1].control = true;
        assert_eq!(flags(&system)[..3], [0, image_flags::CONTROL, 0]);
        system.image[1].reads_disks = true;
        assert_eq!(flags(&system)[..3], [0, image_flags::CONTROL | image_flags::READS_DISKS, 0]);
    }
}
