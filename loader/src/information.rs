//! What the boot loader says (multiboot2, section 3.6), copied out of its tags.

use super::failure::Failure;
use super::modules::{Module, Modules};
use crate::map::{Area, Areas};
use crate::memory::PhysAddr;
use abi::limits::Name;
use base::log::{Mode, Screen};
use core::fmt;
use multiboot2::{BootInformation, BootInformationHeader, FramebufferType, MAGIC, MemoryAreaType, TagType};

/// The boot loader's information.
pub struct Information {
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
pub struct Refused {
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
pub unsafe fn open(magic: u32, address: u32) -> Result<BootInformation<'static>, Refused> {
    if magic != MAGIC {
        return refuse(Failure::NotMultiboot2, "");
    }
    let at = PhysAddr::new(address.into()).as_ptr::<BootInformationHeader>();
    // SAFETY: with the right magic the address is that of the information (multiboot2, section 3.3), and it is mapped.
    unsafe { load(at) }
}

/// Opens the information at `at`.
///
/// # Safety
/// As many bytes as its first word says can be read from there, for ever.
pub unsafe fn load(at: *const BootInformationHeader) -> Result<BootInformation<'static>, Refused> {
    // SAFETY: upheld by the caller.
    match unsafe { BootInformation::load(at) } {
        Ok(information) if information.tags().all(|tag| is_sound(tag.header().typ.into(), tag.payload())) => {
            Ok(information)
        }
        Ok(_) => refuse(Failure::BootInformation, "one of its tags has another size than such tags have"),
        Err(_) => refuse(Failure::BootInformation, "it is truncated or not aligned"),
    }
}

/// Whether a tag has the size that its kind has. The library asserts that, and counts on it, when it is asked for a tag: without
/// this, a boot loader's mistake would be a panic of ours. `body` is what follows the tag's header of eight bytes.
fn is_sound(kind: u32, body: &[u8]) -> bool {
    let half = |at: usize| body.get(at..at + 2).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    match TagType::from(kind) {
        TagType::Module => body.len() >= 8,
        // Entries of another size than today's the library does not read.
        TagType::Mmap => body.len() >= 8 && (body.len() - 8).is_multiple_of(24) && body[..4] == 24_u32.to_le_bytes(),
        TagType::Framebuffer => match body.get(21) {
            // A palette, whose colours are counted; then three colours' places.
            Some(0) => half(24).is_some_and(|colors| body.len() - 26 >= colors * 3),
            Some(1) => body.len() >= 30,
            _ => body.len() >= 24,
        },
        TagType::Efi32 => (4..=8).contains(&body.len()),
        TagType::Efi64 => body.len() == 8,
        TagType::AcpiV1 => (20..=24).contains(&body.len()),
        TagType::AcpiV2 => (36..=40).contains(&body.len()),
        _ => true,
    }
}

/// What the boot loader says that the screen is. When it says nothing, it is EGA text unless the firmware is UEFI.
pub fn screen(information: &BootInformation<'static>) -> Screen {
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
pub fn line(information: &BootInformation<'static>) -> Option<&'static str> {
    let tag = information.command_line_tag()?;
    let text = tag.cmdline().ok()?;
    // SAFETY: the information is never freed or written, so what lies in it lives as long as the core.
    Some(unsafe { core::mem::transmute::<&str, &'static str>(text) })
}

/// Copies the tags.
pub fn read(information: &BootInformation<'static>, address: u32) -> Result<Information, Refused> {
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
            MemoryAreaType::Available => crate::map::Kind::Usable,
            MemoryAreaType::AcpiAvailable | MemoryAreaType::ReservedHibernate => crate::map::Kind::Firmware,
            _ => crate::map::Kind::Reserved,
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
    let own = Area { start, end: start + information.total_size() as u64, kind: crate::map::Kind::Reserved };
    Ok(Information { line, modules, areas, rsdp, own })
}

#[cfg(test)]
mod tests {
    use super::is_sound;

    /// Fuzzing found these: each was a panic inside of the library.
    #[test]
    fn tags_of_a_wrong_size_are_no_tags() {
        let map = |entry: u32, bytes: usize| [&entry.to_le_bytes()[..], &vec![0; bytes + 4]].concat();
        assert!(is_sound(6, &map(24, 0)) && is_sound(6, &map(24, 48)));
        assert!(!is_sound(6, &map(4095, 48)) && !is_sound(6, &map(24, 47)) && !is_sound(6, &[24, 0, 0, 0]));
        let screen = |kind: u8, rest: usize| [&[0; 21][..], &[kind], &vec![0; rest]].concat();
        assert!(is_sound(8, &screen(1, 8)) && !is_sound(8, &screen(1, 7)));
        assert!(is_sound(8, &screen(2, 2)) && !is_sound(8, &screen(2, 1)) && !is_sound(8, &[]));
        let mut palette = screen(0, 4 + 6);
        palette[24] = 2;
        assert!(is_sound(8, &palette) && !is_sound(8, &palette[..31]) && !is_sound(8, &palette[..25]));
        for (kind, least, most) in [(3, 8, 99), (11, 4, 8), (12, 8, 8), (14, 20, 24), (15, 36, 40)] {
            assert!(is_sound(kind, &vec![0; least]) && is_sound(kind, &vec![0; most]), "{kind}");
            assert!(!is_sound(kind, &vec![0; least - 1]), "{kind}");
            assert!(most == 99 || !is_sound(kind, &vec![0; most + 1]), "{kind}");
        }
        // Nobody asks for these.
        assert!(is_sound(2, &[]) && is_sound(4711, &[]));
    }
}
