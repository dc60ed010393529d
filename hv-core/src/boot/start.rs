//! From the record to the run loop.

use super::check::{self, Field, Given, Refused};
use super::fatal::set_words;
use super::handover::{Boot, Virtualization};
use super::vms;
use super::{fatal, frames, refuse};
use crate::board::Hardware;
use crate::board::apic::LocalApic;
use crate::board::features::set_control_registers;
use crate::board::ioapic::IoApics;
use crate::board::msi::Messages;
use crate::board::pci::{PciDevice, pirq_base};
use crate::log::say;
use crate::memory::phys::index;
use crate::memory::{CoreImage, KernelSpace, PhysAddr};
use abi::boot::{BootRecord, DIRECT_MAP, failure, features};
use abi::limits::PAGE_SIZE;
use abi::log::Record;
use base::log::Glyphs;
use core::ptr::NonNull;
use log::LevelFilter;

/// Where the entry goes, on the final page tables: `record` is what the loader left, `image` where the linker put the core.
pub fn start<V: Virtualization>(record: u64, mut image: CoreImage) -> ! {
    crate::log::init();
    let record = open(record);
    let at = (core::ptr::from_ref(record).addr() as u64).wrapping_sub(DIRECT_MAP);
    let given = Given { backend: V::KIND, core_bytes: image.end - CoreImage::START, at };
    or_refuse(check::check(record, &given));
    let options = &record.options;
    set_words(&record.failures);
    base::fatal::set_power_off(options.power_off != 0);
    resume_log(record);
    image.physical = record.core.start;
    // SAFETY: the loader's tables are loaded, were built for this core, and show all RAM; nothing is mapped for users. The record was
    // checked: what it names is the core's, and each thing has a place of its own.
    let (kernel, frames, vms) = unsafe {
        set_control_registers(record.features);
        (KernelSpace::adopt(PhysAddr::new(record.root), image), frames::make(record), vms::take(record))
    };
    #[cfg_attr(not(feature = "selftest"), allow(unused_mut))]
    let Some(mut frames) = frames else { refuse(Field::Count, record.range_count.into()) };
    or_refuse(vms::check(record, vms.records, vms.cells));
    check_tables(&kernel, &image);
    #[cfg(feature = "selftest")]
    super::selftest::wx(&mut frames, &kernel, &record.options);
    let hardware = open_hardware(record);
    crate::kernel::run::<V>(Boot { record, frames, kernel, hardware, vms })
}

fn or_refuse(checked: check::Checked) {
    if let Err(Refused { field, value }) = checked {
        refuse(field, value);
    }
}

/// The record at this address.
fn open(at: u64) -> &'static BootRecord {
    if at < DIRECT_MAP || !at.is_multiple_of(PAGE_SIZE) {
        refuse(Field::Address, at);
    }
    let record: *const BootRecord = core::ptr::with_exposed_provenance(index(at));
    // SAFETY: the loader's entry protocol: a record in the direct map, in memory that nobody writes until the core gives it back. Every
    // byte pattern is one.
    unsafe { &*record }
}

fn resume_log(record: &BootRecord) {
    crate::log::set_start_tsc(record.start_tsc);
    crate::log::set_tsc_hz(record.tsc_hz);
    crate::log::resume_history(&record.said);
    log::set_max_level(match record.options.log {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
    // SAFETY: the record was checked: as many bytes are there, in the core's own frames, and nobody writes them any more.
    let glyphs: &'static Glyphs = unsafe { &*PhysAddr::new(record.glyphs.start).as_ptr() };
    // SAFETY: the loader has mapped a framebuffer's pixels there for good, and does nothing any more.
    unsafe { crate::log::resume_screen(&record.screen, glyphs) };
}

/// Timer, interrupt controllers, PCI.
fn open_hardware(record: &BootRecord) -> Hardware {
    let registers = NonNull::new(core::ptr::with_exposed_provenance_mut(index(record.local_apic)));
    // SAFETY: interrupts are off since the entry; boot has found a local APIC, and mapped its registers where it has no x2APIC mode.
    let mut apic = unsafe { LocalApic::enable(record.features, registers) };
    apic.calibrate(record.tsc_hz);
    // SAFETY: the loader has mapped the registers.
    let Some(mut io_apics) = (unsafe { IoApics::init(record.io_apics()) }) else {
        fatal(failure::NO_IO_APIC, format_args!(""));
    };
    say(Record::Processors { processors: record.processors, timer: apic.timer(), io_apics: record.io_apic_count });
    let pirq_base = pirq_base(record.pci(), io_apics.pins(16));
    Hardware {
        apic,
        io_apics,
        messages: Messages::default(),
        overrides: record.overrides().iter().copied().collect(),
        soft_off: Some(record.soft_off).filter(|soft_off| soft_off.port != 0),
        // SAFETY: the loader has mapped the tables of MSI-X.
        pci: record.pci().iter().map(|found| unsafe { PciDevice::new(found) }).collect(),
        pirq_base,
        rdrand: record.features & features::RDRAND != 0,
        seed: record.clock_unix_ns,
    }
}

/// The core is where the tables say; W^X: walks them.
fn check_tables(kernel: &KernelSpace, image: &CoreImage) {
    for at in [CoreImage::START, image.text_start, image.rodata_end] {
        let there =
            kernel.walk(at).is_some_and(|leaf| leaf.frame.as_u64() + (at - leaf.address) == image.physical_of(at));
        if !there {
            refuse(Field::Root, at);
        }
    }
    if kernel.walk(image.stack_guard).is_some() {
        refuse(Field::Root, image.stack_guard);
    }
    let report = kernel.audit();
    say(Record::CoreAudit { found: report });
    if !report.is_clean() {
        fatal(failure::SELF_TEST, format_args!("{report}"));
    }
}
