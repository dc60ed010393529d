//! Reads the compiled manifest (boot module `manifest`). Pure: everything in it is an allegation until it is checked here.

use abi::component::layout;
use abi::flow::Flow;
use abi::limits::{
    MAX_COMPONENTS, MAX_IMAGES, MAX_MODULES, MAX_POLICIES, MAX_RINGS, MAX_RINGS_PER_COMPONENT, MAX_TENANTS, Name,
    PAGE_SIZE, VM_MEMORY_MAX, VM_MEMORY_MIN,
};
use abi::manifest::{
    ANY, CORE, Component, Header, Image, MAGIC, ModuleDigest, NONE, Ring, checksum, component_flags, image_flags,
};
use abi::quota::{Quota, TenantQuota};
use abi::service::Service;
use abi::tenant::Tenant;
use core::fmt;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// The manifest, checked: counts and indices are in range, names are text, sizes make sense.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    /// The component roles; their index is what the rest names them by.
    pub components: &'a [Component],
    /// The rings.
    pub rings: &'a [Ring],
    /// The guest images.
    pub images: &'a [Image],
    /// What the modules hold.
    pub modules: &'a [ModuleDigest],
    /// What tenants may have.
    pub tenants: &'a [TenantQuota],
    /// Default boot options, in the command line's syntax.
    pub defaults: &'a str,
}

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// Shorter than its header, or than its header says.
    Truncated,
    /// Not a manifest.
    BadMagic,
    /// Built for another version of the ABI: the number found.
    BadVersion(u32),
    /// The bytes do not match their checksum.
    BadChecksum,
    /// The module is not aligned to 8 bytes.
    Misaligned,
    /// More components, rings, images or tenants than can be: which, and how many.
    TooMany(&'static str, u32),
    /// An entry makes no sense: what it is, its index, and what is wrong with it.
    Bad(&'static str, usize, &'static str),
    /// The default options are no text.
    BadDefaults,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::Truncated => f.write_str("it is truncated"),
            ManifestError::BadMagic => f.write_str("it is not a Foraker manifest"),
            ManifestError::BadVersion(found) => {
                write!(f, "it was built for ABI version {found}, this core has version {}", abi::ABI_VERSION)
            }
            ManifestError::BadChecksum => f.write_str("its checksum is wrong"),
            ManifestError::Misaligned => f.write_str("the boot loader did not align it"),
            ManifestError::TooMany(what, count) => write!(f, "it has {count} {what}, more than this core takes"),
            ManifestError::Bad(what, index, why) => write!(f, "{what} {index}: {why}"),
            ManifestError::BadDefaults => f.write_str("its default options are not text"),
        }
    }
}

type Checked = Result<(), &'static str>;

impl<'a> Manifest<'a> {
    /// Checks `bytes`, which may be longer than the manifest.
    ///
    /// # Errors
    /// [`ManifestError`] names the first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Manifest<'a>, ManifestError> {
        if !bytes.as_ptr().addr().is_multiple_of(align_of::<Header>()) {
            return Err(ManifestError::Misaligned);
        }
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| ManifestError::Truncated)?;
        if header.magic != MAGIC {
            return Err(ManifestError::BadMagic);
        }
        if header.abi_version != abi::ABI_VERSION {
            return Err(ManifestError::BadVersion(header.abi_version));
        }
        let length = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        let body = bytes.get(size_of::<Header>()..length).ok_or(ManifestError::Truncated)?;
        if checksum(body) != header.checksum {
            return Err(ManifestError::BadChecksum);
        }
        let (components, body) = take::<Component>(body, header.components, MAX_COMPONENTS, "components")?;
        let (rings, body) = take::<Ring>(body, header.rings, MAX_RINGS, "rings")?;
        let (images, body) = take::<Image>(body, header.images, MAX_IMAGES, "images")?;
        let (modules, body) = take::<ModuleDigest>(body, header.modules, MAX_MODULES, "modules")?;
        let (tenants, body) = take::<TenantQuota>(body, header.tenants, MAX_TENANTS, "tenants")?;
        if !body.is_empty() {
            return Err(ManifestError::Truncated);
        }
        let defaults = padded_text(&header.defaults).ok_or(ManifestError::BadDefaults)?;
        let manifest = Manifest { components, rings, images, modules, tenants, defaults };
        each("component", components, |i, c| manifest.check_component(i, c))?;
        each("ring", rings, |i, r| manifest.check_ring(i, r))?;
        each("component", components, |i, _| manifest.check_services(i))?;
        each("image", images, |i, image| manifest.check_image(i, image))?;
        each("module", modules, |i, module| {
            name(&module.name)?;
            ensure(!modules[..i].iter().any(|other| other.name == module.name), "its name is taken")
        })?;
        each("tenant", tenants, |i, told| {
            ensure(told.tenant().is_some(), "it has no name")?;
            ensure((told.quota(), told.flow()) != (Quota::NONE, Flow::NONE), "its quota says nothing")?;
            ensure(told.wakes != Flow::STAYS && told.rate != Flow::STAYS, "it may do too much in a second")?;
            ensure(!tenants[..i].iter().any(|other| other.tenant == told.tenant), "its name is taken")
        })?;
        Ok(manifest)
    }

    fn check_component(&self, i: usize, component: &Component) -> Checked {
        name(&component.name)?;
        let policies = usize::try_from(component.policy_count).unwrap_or(usize::MAX);
        ensure((1..=MAX_POLICIES).contains(&policies), "it must have 1 to 8 policies")?;
        let policies = &component.policies[..policies];
        for (j, policy) in policies.iter().enumerate() {
            name(&policy.name)?;
            name(&policy.module)?;
            ensure(!policies[..j].iter().any(|p| p.name == policy.name), "two policies have the same name")?;
        }
        let earlier = &self.components[..i];
        ensure(!earlier.iter().any(|c| c.name == component.name), "its name is taken")?;
        ensure(!earlier.iter().any(|c| c.priority == component.priority), "its priority is taken")?;
        ensure(component.budget_us > 0, "its budget is zero")?;
        let stack = u64::from(component.stack_pages) * PAGE_SIZE;
        let room = layout::STACK_TOP - layout::INFO - 2 * PAGE_SIZE;
        ensure(stack > 0 && stack <= room, "its stack is empty or too large")?;
        let memory = u64::from(component.memory_pages) * PAGE_SIZE;
        ensure(memory > 0 && memory <= layout::IMAGE_END - layout::IMAGE_BASE, "its memory is empty or too large")?;
        let dma = u64::from(component.dma_pages) * PAGE_SIZE;
        ensure(dma <= layout::VM_WINDOW - layout::DMA, "its DMA memory is too large")?;
        let keep = u64::from(component.keep_pages) * PAGE_SIZE;
        ensure(keep <= layout::KEEP_END - layout::KEEP, "its kept memory is too large")?;
        ensure(component.pci_class == NONE || component.pci_class <= 0xffff, "its PCI class is not a class")?;
        ensure(component.flags & !component_flags::OPTIONAL == 0, "it has flags that nobody knows")?;
        let ports_end = u32::from(component.port_first) + u32::from(component.port_count);
        ensure(ports_end <= 0x1_0000, "its ports are out of range")?;
        ensure(component.port_irq == NONE || component.port_irq < 16, "its port interrupt is not an ISA interrupt")?;
        let index = u32::try_from(i).unwrap_or(CORE);
        let ends = self.rings.iter().filter(|ring| ring.producer == index || ring.consumer == index).count();
        ensure(ends <= MAX_RINGS_PER_COMPONENT, "it is an end of too many rings")
    }

    fn check_services(&self, i: usize) -> Checked {
        let index = u32::try_from(i).unwrap_or(CORE);
        for service in Service::ALL {
            let rings = |from, to| {
                let is_one = |ring: &&Ring| (ring.producer, ring.consumer, ring.service) == (from, to, service.raw());
                self.rings.iter().filter(is_one).count()
            };
            ensure(
                matches!((rings(CORE, index), rings(index, CORE)), (0, 0) | (1, 1)),
                "a service takes a pair of rings",
            )?;
            let earlier = (0..index).any(|other| self.is_party(other, service));
            let is_second = self.is_party(index, service) && earlier;
            ensure(service.is_shared() || !is_second, "it is the second party to a service that takes one only")?;
        }
        Ok(())
    }

    /// Whether the component of this index is a party to a service.
    fn is_party(&self, index: u32, service: Service) -> bool {
        is_party(self.rings, index, service)
    }

    fn check_ring(&self, i: usize, ring: &Ring) -> Checked {
        name(&ring.name)?;
        ensure(!self.rings[..i].iter().any(|r| r.name == ring.name), "its name is taken")?;
        let known = |end: u32| end == CORE || usize::try_from(end).is_ok_and(|end| end < self.components.len());
        ensure(known(ring.producer) && known(ring.consumer), "it names a component that is not there")?;
        ensure(ring.producer != ring.consumer, "its two ends are the same")?;
        let slots = ring.slots;
        ensure(
            slots.is_power_of_two() && slots <= abi::ring::MAX_SLOTS,
            "its slots are not a power of two up to 4096",
        )?;
        ensure(ring.bytes() <= layout::RING_STRIDE, "it is too large")?;
        let with_core = ring.producer == CORE || ring.consumer == CORE;
        ensure(ring.data_pages == 0 || !with_core, "it has data, and the core is an end")?;
        ensure(ring.reserved == 0, "it has words that nobody knows")?;
        ensure(with_core || ring.service == Service::NONE, "it is about a service, and the core is not its end")?;
        let known = Service::from_raw(ring.service).is_some();
        ensure(!with_core || known, "it is about a service that this core does not know")
    }

    fn check_image(&self, i: usize, image: &Image) -> Checked {
        name(&image.name)?;
        name(&image.module)?;
        ensure(!self.images[..i].iter().any(|other| other.name == image.name), "its name is taken")?;
        let memory = image.memory_bytes;
        ensure((VM_MEMORY_MIN..=VM_MEMORY_MAX).contains(&memory), "its memory is not from 1 MiB to 1 GiB")?;
        ensure(memory.is_multiple_of(PAGE_SIZE), "its memory is not whole pages")?;
        let (rx, tx) = (image.rx_slots, image.tx_slots);
        let none = rx == 0 && tx == 0;
        ensure(none || rx.is_power_of_two() && tx.is_power_of_two(), "its NIC slots are not powers of two")?;
        let total = rx.saturating_add(tx);
        ensure(total <= abi::nic::MAX_SLOTS_TOTAL, "its NIC has too many slots")?;
        let nic = abi::nic::nic_pages(rx, tx) * PAGE_SIZE;
        let room = abi::nic::WINDOW_STRIDE.min(abi::guest::IMAGE_BASE - abi::guest::NIC_BASE);
        ensure(none || nic <= room, "its NIC has too many slots")?;
        ensure(padded_text(&image.args).is_some(), "its boot arguments are not text")?;
        let share = image.share();
        let said = share.weight != 0 && share.rate != 0 && share.burst != 0;
        ensure(said && share.is_valid(), "its weight, rate or burst is beyond its limits")?;
        let server = |of: u16, service| of == ANY || self.is_party(of.into(), service);
        ensure(server(image.net, Service::Net), "it names a demultiplexer that is none")?;
        ensure(server(image.pager, Service::Pager), "it names a pager that is none")?;
        ensure(image.reserve_frames >= abi::claim::RESERVE_LEAST, "its VMs cannot start with their reserve")?;
        ensure(image.reserve_frames <= image.limit_frames, "its reserve is beyond its limit")?;
        ensure(Tenant::from_raw(image.tenant).is_some() && image.reserved == 0, "its tenant has no name")?;
        ensure(image.disk.is_valid() && image.reserved2 == 0, "its virtual disk has no name")?;
        ensure(image.flags & !image_flags::ALL == 0, "it has flags that this core does not know")?;
        let lazy = !image.starts_lazily() || image.can_start_lazily();
        ensure(lazy, "its VMs start with the first packet, and get none or control the machine")?;
        ensure(image.has_good_flags(), "its VMs read virtual disks, and do not control the machine")
    }
}

/// Whether the component of this index is a party to a service.
pub fn is_party(rings: &[Ring], index: u32, service: Service) -> bool {
    rings.iter().any(|ring| ring.service == service.raw() && (ring.producer == index || ring.consumer == index))
}

fn ensure(good: bool, otherwise: &'static str) -> Checked {
    if good { Ok(()) } else { Err(otherwise) }
}

fn each<T>(what: &'static str, items: &[T], check: impl Fn(usize, &T) -> Checked) -> Result<(), ManifestError> {
    for (i, item) in items.iter().enumerate() {
        check(i, item).map_err(|why| ManifestError::Bad(what, i, why))?;
    }
    Ok(())
}

fn take<'a, T: FromBytes + KnownLayout + Immutable>(
    bytes: &'a [u8],
    count: u32,
    max: usize,
    what: &'static str,
) -> Result<(&'a [T], &'a [u8]), ManifestError> {
    let number = usize::try_from(count).ok().filter(|&number| number <= max);
    let number = number.ok_or(ManifestError::TooMany(what, count))?;
    <[T]>::ref_from_prefix_with_elems(bytes, number).map_err(|_| ManifestError::Truncated)
}

/// The ASCII text in front of the padding; `None` when it is no text, or the padding is not zeros.
pub fn padded_text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, padding) = bytes.split_at(end);
    let printable = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
    (printable && padding.iter().all(|&byte| byte == 0)).then_some(())?;
    core::str::from_utf8(text).ok()
}

fn name(name: &Name) -> Checked {
    let text = padded_text(&name.0).filter(|text| Name::new(text).is_some() && !text.is_empty());
    ensure(text.is_some_and(|text| !text.contains(['=', ',', '*'])), "a name is empty or not a name")
}
