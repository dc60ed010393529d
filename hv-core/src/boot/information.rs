//! What the boot loader says (multiboot2, section 3.6), copied out of its tags.

use super::failure::Failure;
use super::modules::{Module, Modules};
use crate::log::{Mode, Screen};
use crate::memory::PhysAddr;
use crate::memory::map::{Area, Areas};
use abi::limits::Name;
use core::fmt;
use multiboot2::{BootInformation, BootInformationHeader, FramebufferType, MAGIC, MemoryAreaType};

/// The boot loader's information.
pub(super) struct Information {
    /// Options, in the boot loader's memory.
    pub line: &'static str,
    /// The modules.
    pub modules: Modules,
    /// The memory map.
    pub areas: Areas,
    /// Revision of the RSDP, and address of the RSDT or XSDT.
    pub rsdp: Option<(u8, u64)>,
    /// The information's own range.
    pub own: Area,
}

/// A failure, the module that it is about, and why.
pub(super) struct Refused {
    pub failure: Failure,
    module: Option<Name>,
    why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.module.map_or(Ok(()), |name| write!(f, "module '{name}': "))?;
        f.write_str(self.why)
    }
}

fn refuse<T>(failure: Failure, why: &'static str) -> Result<T, Refused> {
    Err(Refused { failure, module: None, why })
}

/// Opens the information.
///
/// # Safety
/// `magic` and `address` are what the boot loader left, and the lowest 4 GiB are mapped in the direct map.
pub(super) unsafe fn open(magic: u32, address: u32) -> Result<BootInformation<'static>, Refused> {
    if magic != MAGIC {
        return refuse(Failure::NotMultiboot2, "");
    }
    let at = PhysAddr::new(address.into()).as_ptr::<BootInformationHeader>();
    // SAFETY: with the right magic the address is that of the information (multiboot2, section 3.3), and it is mapped.
    match unsafe { BootInformation::load(at) } {
        Ok(information) => Ok(information),
        Err(_) => refuse(Failure::BootInformation, "it is truncated or not aligned"),
    }
}

/// What the boot loader says that the screen is. When it says nothing, it is EGA text unless the firmware is UEFI.
pub(super) fn screen(information: &BootInformation<'static>) -> Screen {
    let tag = match information.framebuffer_tag() {
        None if information.efi_sdt64_tag().is_some() || information.efi_sdt32_tag().is_some() => return Screen::None,
        None => return Screen::Text,
        Some(Ok(tag)) => tag,
        Some(Err(_)) => return Screen::None,
    };
    match tag.buffer_type() {
        Ok(FramebufferType::Text) => Screen::Text,
        Ok(FramebufferType::RGB { red, green, blue }) => {
            let eight_bits = [&red, &green, &blue].iter().all(|color| color.size == 8);
            let mode = Mode {
                address: PhysAddr::new(tag.address()),
                pitch: tag.pitch(),
                width: tag.width(),
                height: tag.height(),
                colors: [red.position, green.position, blue.position],
            };
            if tag.bpp() == 32 && eight_bits { Screen::Pixels(mode) } else { Screen::None }
        }
        _ => Screen::None,
    }
}

/// The options as they were written; unreadable ones are refused later, by [`read`].
pub(super) fn line(information: &BootInformation<'static>) -> Option<&'static str> {
    let tag = information.command_line_tag()?;
    let text = tag.cmdline().ok()?;
    // SAFETY: the information is never freed or written, so what lies in it lives as long as the core.
    Some(unsafe { core::mem::transmute::<&str, &'static str>(text) })
}

/// Copies the tags.
pub(super) fn read(information: &BootInformation<'static>, address: u32) -> Result<Information, Refused> {
    let line = match (information.command_line_tag(), line(information)) {
        (None, _) => "",
        (Some(_), Some(line)) => line,
        (Some(_), None) => return refuse(Failure::BadOptions, "they are not text"),
    };
    let Some(map) = information.memory_map_tag() else {
        return refuse(Failure::BootInformation, "it has no memory map");
    };
    let mut areas = Areas::default();
    for area in map.memory_areas() {
        let kind = match area.typ() {
            MemoryAreaType::Available => crate::memory::map::Kind::Usable,
            MemoryAreaType::AcpiAvailable | MemoryAreaType::ReservedHibernate => crate::memory::map::Kind::Firmware,
            _ => crate::memory::map::Kind::Reserved,
        };
        let start = area.start_address();
        let end = start.saturating_add(area.size());
        if areas.add(Area { start, end, kind }).is_err() {
            return refuse(Failure::BootInformation, "its memory map has too many entries");
        }
    }
    let mut modules = Modules::default();
    for tag in information.module_tags() {
        let text = tag.cmdline().unwrap_or("");
        let name = text.split_ascii_whitespace().next().and_then(Name::new).unwrap_or(Name::EMPTY);
        let refused = |why| Refused { failure: Failure::Modules, module: Some(name), why };
        if name.is_empty() {
            return Err(refused("it has no name, or one of more than 16 characters"));
        }
        let bytes = u64::from(tag.end_address()).checked_sub(tag.start_address().into());
        let bytes = bytes.ok_or_else(|| refused("it ends before it starts"))?;
        modules.add(Module { name, start: PhysAddr::new(tag.start_address().into()), bytes }).map_err(refused)?;
    }
    let rsdp = match (information.rsdp_v2_tag(), information.rsdp_v1_tag()) {
        (Some(tag), _) if tag.checksum_is_valid() => Some((tag.revision(), tag.xsdt_address() as u64)),
        (_, Some(tag)) if tag.checksum_is_valid() => Some((0, tag.rsdt_address() as u64)),
        _ => None,
    };
    let start = u64::from(address);
    let own = Area { start, end: start + information.total_size() as u64, kind: crate::memory::map::Kind::Reserved };
    Ok(Information { line, modules, areas, rsdp, own })
}
