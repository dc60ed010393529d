//! Writing the boot record: everything that was found and placed, in the core's binary.

use crate::acpi::AcpiInfo;
use crate::clock::TscRate;
use crate::digests::{self, Damage};
use crate::failure::{Failure, fatal};
use crate::features::CpuFeatures;
use crate::kernel_tables::KernelTables;
use crate::manifest::Manifest;
use crate::map::EARLY_END;
use crate::memory::{Frames, Owner, PhysAddr};
use crate::modules::{Module, Modules};
use crate::options::Options;
use crate::pci::PciDevices;
use crate::pool::Out;
use crate::present::Present;
use crate::programs::{self, BadProgram, Tails};
use crate::virtualization::Virtualization;
use abi::boot::{self, BootRecord, Extent, FailureWords, MAX_FAILURES, backend, failure};
use abi::limits::{MAX_MODULES, Name, PAGE_SIZE};
use abi::manifest::{self, ModuleDigest, NONE};
use base::log::Glyphs;
use zerocopy::FromBytes;

/// Cleared memory below 4 GiB for `T`, for good.
///
/// # Safety
/// All-zero bytes are a valid `T`.
unsafe fn room<T>(frames: &mut Frames, owner: Owner) -> (&'static mut T, Extent) {
    let pages = (size_of::<T>() as u64).div_ceil(PAGE_SIZE);
    let Some(first) = frames.alloc_contiguous(pages, 1, EARLY_END, owner) else {
        fatal(Failure::NotEnoughMemory, format_args!("no room for the boot record"));
    };
    let memory = crate::memory::core_memory(first, pages * PAGE_SIZE);
    let _ = memory.clear(0, memory.len());
    // SAFETY: the frames were just allocated and cleared, are mapped and page-aligned, and nobody else knows them; zeros are valid by
    // this function's contract.
    (unsafe { &mut *first.as_ptr() }, Extent { start: first.as_u64(), bytes: pages * PAGE_SIZE })
}

/// An empty record.
pub fn make(frames: &mut Frames) -> &'static mut BootRecord {
    const fn zeros_are_valid<T: FromBytes>() {}
    zeros_are_valid::<BootRecord>();
    // SAFETY: every byte pattern is a record, as just seen.
    let (record, own) = unsafe { room::<BootRecord>(frames, Owner::Loader) };
    record.magic = boot::MAGIC;
    record.version = boot::VERSION;
    record.bytes = BootRecord::BYTES;
    record.own = own;
    record
}

/// The words of all failures that the core can end with by itself.
fn words() -> [FailureWords; MAX_FAILURES] {
    let mut all = [FailureWords::NONE; MAX_FAILURES];
    for (to, code) in all.iter_mut().zip(failure::WITH_WORDS) {
        let Some(of) = Failure::ALL.iter().find(|of| u32::from(of.code()) == code) else { continue };
        to.code = code;
        to.cause[..of.cause().len()].copy_from_slice(of.cause().as_bytes());
        to.remedy[..of.remedy().len()].copy_from_slice(of.remedy().as_bytes());
    }
    all
}

/// The characters' pixels, for the core.
pub fn write_glyphs(record: &mut BootRecord, frames: &mut Frames) {
    // SAFETY: bytes.
    let (glyphs, extent) = unsafe { room::<Glyphs>(frames, Owner::Core) };
    *glyphs = *crate::glyphs::all();
    record.glyphs = extent;
}

/// The processor, and what was decided about it.
pub fn write_processor(record: &mut BootRecord, features: &CpuFeatures, virtualization: &Virtualization) {
    record.features = features.bits();
    match virtualization {
        Virtualization::Vtx(plan) => {
            record.backend = backend::VMX;
            record.vmx = plan.into();
        }
        Virtualization::Svm(plan) => {
            record.backend = backend::SVM;
            record.svm = plan.into();
        }
    }
    record.failures = words();
}

/// The clock.
pub fn write_time(record: &mut BootRecord, rate: &TscRate, tsc: u64, unix_ns: u64) {
    record.start_tsc = base::log::start_tsc();
    record.tsc_hz = rate.hz;
    record.clock_tsc = tsc;
    record.clock_unix_ns = unix_ns;
}

/// Interrupt controllers, with their registers mapped, and power-off.
pub fn write_acpi(
    record: &mut BootRecord,
    acpi: &AcpiInfo,
    features: &CpuFeatures,
    tables: &mut KernelTables,
    frames: &mut Frames,
) {
    record.processors = u32::try_from(acpi.processors).unwrap_or(u32::MAX);
    record.soft_off = acpi.soft_off.unwrap_or_default();
    if !features.x2apic {
        let Some(registers) = tables.map_mmio(frames, PhysAddr::new(acpi.local_apic), PAGE_SIZE) else {
            fatal(Failure::NoLocalApic, format_args!("its registers cannot be mapped"));
        };
        record.local_apic = registers.as_ptr().addr() as u64;
    }
    for (to, from) in record.io_apics.iter_mut().zip(&acpi.io_apics) {
        let Some(registers) = tables.map_mmio(frames, from.address, PAGE_SIZE) else { break };
        *to = boot::IoApic { registers: registers.as_ptr().addr() as u64, gsi_base: from.gsi_base, reserved: 0 };
        record.io_apic_count += 1;
    }
    if record.io_apic_count == 0 {
        fatal(Failure::NoIoApic, format_args!("the MADT names none"));
    }
    for (to, from) in record.overrides.iter_mut().zip(&acpi.overrides) {
        *to = *from;
        record.override_count += 1;
    }
}

/// The PCI functions.
pub fn write_pci(record: &mut BootRecord, pci: &PciDevices) {
    for (to, from) in record.pci.iter_mut().zip(&pci.devices) {
        *to = *from;
        record.pci_count += 1;
    }
}

/// Modules with their bytes, each checked against its digest once: what is placed may clear what lies behind it.
struct Checked<'m> {
    digests: &'m [ModuleDigest],
    modules: &'m Modules,
    /// By the modules' first bytes.
    seen: heapless::Vec<(u64, Result<(), Damage>), MAX_MODULES>,
}

impl<'m> Checked<'m> {
    /// The module of this name, and its bytes, if they are what the manifest says.
    fn get(&mut self, name: &Name) -> Result<(&'m Module, &'static [u8]), BadProgram> {
        let module = self.modules.get(name.as_str()).ok_or(BadProgram::NoModule)?;
        let start = module.start.as_u64();
        // SAFETY: the boot loader put it there, and its frames are given away by nobody before the loader is done.
        let file = unsafe { module.bytes() };
        let verdict = match self.seen.iter().find(|(seen, _)| *seen == start) {
            Some((_, verdict)) => *verdict,
            None => {
                let verdict = digests::check(self.digests, module, file);
                // As many as there are modules.
                let _ = self.seen.push((start, verdict));
                verdict
            }
        };
        verdict.map_err(BadProgram::Damaged)?;
        Ok((module, file))
    }
}

/// Rings, components with their policies, and guest images, placed, and the quotas of tenants; who keeps VMs that are `out` only where there may be such. A component that lacks its module or its device ends the boot; a
/// policy or an image that does is said, and the rest go on.
pub fn write_manifest(
    record: &mut BootRecord,
    manifest: &Manifest<'_>,
    options: &Options,
    modules: &Modules,
    pci: &PciDevices,
    out: Out,
    frames: &mut Frames,
) -> Kept {
    let mut kept = Kept::default();
    let mut tails = Tails::default();
    let mut checked = Checked { digests: manifest.modules, modules, seen: heapless::Vec::new() };
    let present = Present::new(manifest, pci, out);
    for from in manifest.rings.iter().filter_map(|ring| present.ring(ring)) {
        let Some(to) = record.rings.get_mut(usize::try_from(record.ring_count).unwrap_or(usize::MAX)) else { break };
        *to = from;
        record.ring_count += 1;
    }
    let there = manifest.components.iter().enumerate().filter(|(index, _)| present.is(*index));
    for (to, (index, entry)) in record.components.iter_mut().zip(there) {
        to.entry = *entry;
        // The manifest was checked: there is one at least, and no more than fit.
        let count = usize::try_from(entry.policy_count).unwrap_or(0).clamp(1, entry.policies.len());
        let choice = options.policies.get(index).copied().unwrap_or(0).min(count - 1);
        to.chosen = u32::try_from(choice).unwrap_or(0);
        for (index, (to, policy)) in to.programs.iter_mut().zip(&entry.policies[..count]).enumerate() {
            let name = policy.module;
            let placed = checked.get(&name).and_then(|(module, file)| {
                let program = programs::policy(frames, entry, module, file, &mut tails)?;
                kept.keep(module);
                Ok(program)
            });
            *to = match placed {
                Ok(program) => program,
                Err(BadProgram::NoModule) if index == choice => {
                    fatal(Failure::NoModule, format_args!("'{name}' is not among the boot modules"));
                }
                Err(BadProgram::Elf(error)) if index == choice => {
                    fatal(Failure::BadModule, format_args!("'{name}': {error}"));
                }
                Err(BadProgram::Damaged(damage)) if index == choice => {
                    fatal(Failure::DamagedModule, format_args!("'{name}': {damage}"));
                }
                Err(BadProgram::NoMemory) => {
                    fatal(Failure::NotEnoughMemory, format_args!("no memory for component '{}'", entry.name));
                }
                Err(why) => {
                    let reason = Unfit(why);
                    log::warn!("{}: policy {} cannot be chosen: its module '{name}' {reason}", entry.name, policy.name);
                    programs::bad(why)
                }
            };
        }
        if entry.pci_class != NONE && !pci.has_class(entry.pci_class) {
            let (component, class) = (entry.name, entry.pci_class);
            let (class, subclass) = (class >> 8, class & 0xff);
            fatal(
                Failure::NoDevice,
                format_args!("'{component}' drives devices of PCI class {class:02x}:{subclass:02x}"),
            );
        }
        record.component_count += 1;
    }
    for (number, (to, entry)) in (0..).zip(record.images.iter_mut().zip(manifest.images)) {
        to.entry = manifest::Image { net: present.number(entry.net), pager: present.number(entry.pager), ..*entry };
        to.entry.flags = options.flags_of(entry);
        let placed = checked.get(&entry.module).and_then(|(module, file)| {
            let program = programs::image(frames, entry, number, module, file)?;
            kept.keep(module);
            Ok(program)
        });
        to.program = placed.unwrap_or_else(|why| {
            log::error!(
                "image {}: {why}; its VMs cannot be created; rebuild it and add it to the boot entry",
                entry.name
            );
            programs::bad(why)
        });
        record.image_count += 1;
    }
    for (to, from) in record.tenants.iter_mut().zip(manifest.tenants) {
        *to = *from;
        record.tenant_count += 1;
    }
    tails.clear();
    kept
}

/// Modules that stay, because programs lie in them.
#[derive(Debug, Default)]
pub struct Kept(heapless::Vec<u64, MAX_MODULES>);

impl Kept {
    fn keep(&mut self, module: &Module) {
        // As many as there are modules.
        let _ = self.0.push(module.start.as_u64());
    }

    /// Whether a module stays.
    pub fn contains(&self, module: &Module) -> bool {
        self.0.contains(&module.start.as_u64())
    }
}

/// The end of a sentence about a module.
struct Unfit(BadProgram);

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            BadProgram::NoModule => f.write_str("is not among the boot modules"),
            BadProgram::Elf(error) => write!(f, "is refused: {error}"),
            BadProgram::Damaged(damage) => write!(f, "is refused: {damage}"),
            BadProgram::NoMemory => f.write_str("has no room"),
        }
    }
}
