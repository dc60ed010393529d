//! What the ACPI tables say about interrupt controllers and timers. Read once at boot, on the early page tables.

use crate::memory::PhysAddr;
use crate::memory::phys::index;
use abi::boot::{MAX_IO_APICS, MAX_OVERRIDES, Override, SoftOff};
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiError, AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use core::ptr::NonNull;

/// The early page tables show the lowest 4 GiB; firmware puts its tables there.
const REACH: usize = 1 << 32;
/// MADT entries and bytes of DSDT that are looked at, at most.
const MAX_MADT_ENTRIES: usize = 4096;
const MAX_DSDT: usize = 1 << 20;

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicInfo {
    /// Its registers.
    pub address: PhysAddr,
    /// The global system interrupt of its first pin.
    pub gsi_base: u32,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct AcpiInfo {
    /// Registers of the local APICs in xAPIC mode.
    pub local_apic: u64,
    /// Processors that can be used.
    pub processors: usize,
    /// The I/O APICs.
    pub io_apics: heapless::Vec<IoApicInfo, MAX_IO_APICS>,
    /// ISA interrupts that are wired otherwise.
    pub overrides: heapless::Vec<Override, MAX_OVERRIDES>,
    /// Registers of the HPET.
    pub hpet: Option<u64>,
    /// Port of the ACPI timer.
    pub pm_timer: Option<u16>,
    /// Index of the century in the real-time clock, 0 for none.
    pub century: u8,
    /// How to power the machine off.
    pub soft_off: Option<SoftOff>,
}

/// Reads through the direct map.
#[derive(Clone, Copy)]
struct Reader;

impl AcpiHandler for Reader {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        // The trait knows no failure; a table out of reach reads as the zeros at the start of this page instead, whose
        // signature and checksum are wrong, so the caller refuses it.
        static NOTHING: [u64; 512] = [0; 512];
        let reachable = size <= REACH && address <= REACH - size && address != 0;
        let at: *mut T =
            if reachable { PhysAddr::new(address as u64).as_ptr() } else { (&raw const NOTHING).cast_mut().cast() };
        let at = NonNull::new(at).unwrap_or(NonNull::dangling());
        // SAFETY: the early page tables map the range; what the firmware wrote there nobody changes meanwhile.
        unsafe { PhysicalMapping::new(address, at, size, size, Reader) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

impl AcpiInfo {
    /// Reads the tables from the RSDT (revision 0) or XSDT at `root`.
    ///
    /// # Errors
    /// The sentence says which table is missing or damaged.
    ///
    /// # Safety
    /// The lowest 4 GiB are mapped in the direct map, and `root` is what the boot loader found.
    pub unsafe fn read(revision: u8, root: u64) -> Result<AcpiInfo, &'static str> {
        if root == 0 || root >= REACH as u64 {
            return Err("their root is out of reach");
        }
        // SAFETY: by this function's contract.
        let tables = unsafe { AcpiTables::from_rsdt(Reader, revision, index(root)) };
        let tables = tables.map_err(|_| "their root is damaged")?;
        let mut info = AcpiInfo::default();
        let madt = tables.find_table::<Madt>().map_err(|_| "the MADT is missing or damaged")?;
        info.read_madt(&madt);
        info.hpet = HpetInfo::new(&tables).ok().map(|hpet| hpet.base_address as u64);
        if let Ok(fadt) = tables.find_table::<Fadt>() {
            info.century = fadt.century;
            let port = |block: Result<_, AcpiError>| {
                let block: acpi::address::GenericAddress = block.ok()?;
                let io = block.address_space == acpi::address::AddressSpace::SystemIo;
                u16::try_from(block.address).ok().filter(|_| io)
            };
            info.pm_timer = fadt.pm_timer_block().ok().flatten().and_then(|block| port(Ok(block)));
            info.soft_off = port(fadt.pm1a_control_block()).and_then(|port| {
                let dsdt = tables.dsdt().ok()?;
                let reachable = dsdt.address < REACH && (dsdt.length as usize) < MAX_DSDT;
                let at = reachable.then(|| PhysAddr::new(dsdt.address as u64).as_ptr::<u8>())?;
                // SAFETY: below 4 GiB, so mapped; the length is the one of the table's header, which was checked.
                let code = unsafe { core::slice::from_raw_parts(at, dsdt.length as usize) };
                Some(SoftOff { port, sleep_type: s5_sleep_type(code)? })
            });
        }
        Ok(info)
    }

    fn read_madt(&mut self, madt: &PhysicalMapping<Reader, Madt>) {
        let madt = madt.get();
        self.local_apic = u64::from(madt.local_apic_address);
        for entry in madt.entries().take(MAX_MADT_ENTRIES) {
            match entry {
                // Bit 0: enabled.
                MadtEntry::LocalApic(cpu) => self.processors += usize::from(cpu.flags & 1 != 0),
                MadtEntry::LocalX2Apic(cpu) => self.processors += usize::from(cpu.flags & 1 != 0),
                MadtEntry::LocalApicAddressOverride(at) => self.local_apic = at.local_apic_address,
                MadtEntry::IoApic(io) => {
                    let address = PhysAddr::new(io.io_apic_address.into());
                    let info = IoApicInfo { address, gsi_base: io.global_system_interrupt_base };
                    // More I/O APICs than this have pins that nothing here uses.
                    let _ = self.io_apics.push(info);
                }
                MadtEntry::InterruptSourceOverride(wire) if wire.bus == 0 => {
                    let (irq, gsi, flags) = (wire.irq, wire.global_system_interrupt, wire.flags);
                    let item = Override { gsi, flags, irq, reserved: 0 };
                    // There are sixteen ISA interrupts.
                    let _ = self.overrides.push(item);
                }
                _ => {}
            }
        }
    }
}

/// SLP_TYPa in the package `_S5_`: name, PackageOp, length, count, then an integer. There is no AML interpreter here; this
/// is the form in which compilers write it (ACPI 6.5, sections 7.4.2 and 20.2).
fn s5_sleep_type(code: &[u8]) -> Option<u16> {
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0a;
    let at = code.windows(5).position(|bytes| bytes[..4] == *b"_S5_" && bytes[4] == PACKAGE)? + 5;
    // Bits 7..6 of the length's first byte: how many bytes follow it.
    let length = *code.get(at)?;
    let value = at + 1 + usize::from(length >> 6) + 1;
    let sleep_type = match *code.get(value)? {
        BYTE_PREFIX => *code.get(value + 1)?,
        small @ (0 | 1) => small,
        _ => return None,
    };
    (sleep_type < 8).then_some(sleep_type.into())
}

#[cfg(test)]
mod tests {
    use super::s5_sleep_type;

    #[test]
    fn s5() {
        assert_eq!(s5_sleep_type(b"xx\x08_S5_\x12\x06\x04\x00\x00\x00\x00"), Some(0));
        assert_eq!(s5_sleep_type(b"\x08_S5_\x12\x0a\x04\x0a\x07\x0a\x07\x00\x00"), Some(7));
        assert_eq!(s5_sleep_type(b"\x08_S5_\x12\x4a\x00\x04\x0a\x05"), Some(5));
        assert_eq!(s5_sleep_type(b"\x08_S5_\x12\x06\x04\x0a\x09"), None);
        assert_eq!(s5_sleep_type(b"\x08_S5_\x12\x06\x04"), None);
        assert_eq!(s5_sleep_type(b"_S4_\x12\x06\x04\x00"), None);
    }
}
