//! Reads static ELF64 programs (components, guest images). Pure: the bytes are hostile until they are checked here.
//!
//! Sources: System V ABI, chapters 4 and 5; its AMD64 supplement. Only the program headers are used.

use abi::boot::segment;
use abi::limits::{MAX_SEGMENTS, PAGE_SIZE};
use abi::note::{KIND_COMPONENT, NOTE_NAME, NOTE_TYPE, Note, TABLES_TYPE, TableBytes, TablesNote};
use core::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// File header.
#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
struct FileHeader {
    magic: [u8; 4],
    class: u8,
    data: u8,
    _ident: [u8; 10],
    kind: U16,
    machine: U16,
    _version: U32,
    entry: U64,
    program_offset: U64,
    _section_offset: U64,
    _flags: U32,
    _header_bytes: U16,
    program_bytes: U16,
    program_count: U16,
    _sections: [U16; 3],
}

/// Program header.
#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    address: U64,
    _physical: U64,
    file_bytes: U64,
    memory_bytes: U64,
    _align: U64,
}

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;
const TLS: u32 = 7;
const FLAG_EXECUTE: u32 = 1;
const FLAG_WRITE: u32 = 2;
const FLAG_READ: u32 = 4;
/// Program headers that are looked at, at most: more are refused.
const MAX_PROGRAM_HEADERS: u16 = 32;

/// One loadable segment, checked: its file range lies in the file, its pages in the allowed range, and no other segment
/// has a page in common with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of its first byte, page-aligned.
    pub address: u64,
    /// Bytes in memory; what the file does not cover is zero.
    pub memory_bytes: u64,
    /// Offset of its first byte in the file, page-aligned.
    pub file_offset: u64,
    /// Bytes in the file, at most `memory_bytes`.
    pub file_bytes: u64,
    /// May be written.
    pub write: bool,
    /// May be executed; never together with `write`.
    pub execute: bool,
    /// May not be touched at all: the segment has no flag set, as a guard below a stack. It has no bytes
    /// in the file.
    pub hole: bool,
}

impl Segment {
    /// First address behind its last page.
    pub const fn end(&self) -> u64 {
        self.address + self.memory_bytes.next_multiple_of(PAGE_SIZE)
    }

    /// What may be done there, as bits of [`abi::boot::segment`].
    pub const fn flags(&self) -> u32 {
        let write = if self.write { segment::WRITE } else { 0 };
        let execute = if self.execute { segment::EXECUTE } else { 0 };
        let hole = if self.hole { segment::HOLE } else { 0 };
        write | execute | hole
    }

    /// Pages in memory.
    pub const fn pages(&self) -> u64 {
        self.memory_bytes.div_ceil(PAGE_SIZE)
    }

    /// Pages of which the file covers at least one byte.
    pub const fn file_pages(&self) -> u64 {
        self.file_bytes.div_ceil(PAGE_SIZE)
    }
}

/// What the caller accepts.
#[derive(Clone, Copy, Debug)]
pub struct Accept {
    /// Lowest address of a segment.
    pub low: u64,
    /// First address that no page of a segment may reach.
    pub high: u64,
    /// [`abi::note::KIND_COMPONENT`] or [`abi::note::KIND_GUEST`].
    pub kind: u32,
}

/// A program that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Address of the first instruction, in an executable segment.
    pub entry: u64,
    /// The segments, in the file's order.
    pub segments: heapless::Vec<Segment, MAX_SEGMENTS>,
    /// What its tables take.
    pub tables: TableBytes,
}

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// No ELF file.
    NotElf,
    /// Not 64-bit little-endian.
    WrongClass,
    /// Not for x86-64.
    WrongMachine(u16),
    /// Not a static executable.
    NotStatic,
    /// The headers reach beyond the file, or are of another size.
    BadHeaders,
    /// More program headers or segments than can be.
    TooManySegments,
    /// No segment at all.
    NoSegments,
    /// A segment's file range reaches beyond the file: the segment's address.
    Truncated(u64),
    /// A segment's address or file offset is not at a page boundary.
    Unaligned(u64),
    /// A segment is larger in the file than in memory.
    BadSize(u64),
    /// A segment is writable and executable.
    WritableExecutable(u64),
    /// A segment lies outside the range that programs may have.
    OutOfRange(u64),
    /// A segment shares a page with another.
    Overlap(u64),
    /// A segment that nobody may touch holds bytes, or a component has one.
    BadHole(u64),
    /// The entry is in no executable segment.
    BadEntry(u64),
    /// There is no Foraker note: somebody else's program.
    NoNote,
    /// The note has another ABI version: the number found.
    WrongVersion(u32),
    /// The note says that it is another kind of program.
    WrongKind,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ElfError::NotElf => f.write_str("it is not an ELF file"),
            ElfError::WrongClass => f.write_str("it is not a 64-bit little-endian ELF file"),
            ElfError::WrongMachine(machine) => write!(f, "it is for ELF machine {machine}, not for x86-64"),
            ElfError::NotStatic => f.write_str("it is not a static executable"),
            ElfError::BadHeaders => f.write_str("its headers are damaged"),
            ElfError::TooManySegments => write!(f, "it has more than {MAX_SEGMENTS} segments"),
            ElfError::NoSegments => f.write_str("it has no segments"),
            ElfError::Truncated(at) => write!(f, "the file ends before its segment at {at:#x} does"),
            ElfError::Unaligned(at) => write!(f, "its segment at {at:#x} is not aligned to pages in memory and file"),
            ElfError::BadSize(at) => write!(f, "its segment at {at:#x} is larger in the file than in memory"),
            ElfError::WritableExecutable(at) => write!(f, "its segment at {at:#x} is writable and executable"),
            ElfError::OutOfRange(at) => write!(f, "its segment at {at:#x} is outside the memory it may have"),
            ElfError::Overlap(at) => write!(f, "its segment at {at:#x} overlaps another"),
            ElfError::BadHole(at) => write!(
                f,
                "its segment at {at:#x} has no flag set: that is a hole, which components do not have, and without bytes in the file"
            ),
            ElfError::BadEntry(at) => write!(f, "its entry {at:#x} is in no executable segment"),
            ElfError::NoNote => f.write_str("it has no Foraker note"),
            ElfError::WrongVersion(found) => {
                write!(f, "it was built for ABI version {found}, this core has version {}", abi::ABI_VERSION)
            }
            ElfError::WrongKind => f.write_str("it is a program of another kind (component or guest)"),
        }
    }
}

impl Elf {
    /// Checks `file`.
    ///
    /// # Errors
    /// [`ElfError`] names the first thing that is wrong.
    pub fn parse(file: &[u8], accept: Accept) -> Result<Elf, ElfError> {
        let (header, _) = FileHeader::ref_from_prefix(file).map_err(|_| ElfError::NotElf)?;
        if header.magic != *b"\x7fELF" {
            return Err(ElfError::NotElf);
        }
        if header.class != CLASS_64 || header.data != LITTLE_ENDIAN {
            return Err(ElfError::WrongClass);
        }
        if header.machine != X86_64 {
            return Err(ElfError::WrongMachine(header.machine.get()));
        }
        if header.kind != EXECUTABLE {
            return Err(ElfError::NotStatic);
        }
        if usize::from(header.program_bytes.get()) != size_of::<ProgramHeader>() {
            return Err(ElfError::BadHeaders);
        }
        if header.program_count > MAX_PROGRAM_HEADERS {
            return Err(ElfError::TooManySegments);
        }
        let start = usize::try_from(header.program_offset.get()).map_err(|_| ElfError::BadHeaders)?;
        let headers = file.get(start..).ok_or(ElfError::BadHeaders)?;
        let (headers, _) = <[ProgramHeader]>::ref_from_prefix_with_elems(headers, header.program_count.get().into())
            .map_err(|_| ElfError::BadHeaders)?;

        let mut segments = heapless::Vec::new();
        let mut note = Err(ElfError::NoNote);
        for program in headers {
            match program.kind.get() {
                LOAD if program.memory_bytes.get() > 0 => {
                    let segment = check_segment(program, file, accept, &segments)?;
                    segments.push(segment).map_err(|_| ElfError::TooManySegments)?;
                }
                DYNAMIC | INTERPRETER | TLS => return Err(ElfError::NotStatic),
                NOTE if note.is_err() => {
                    let bytes = range(file, program.offset.get(), program.file_bytes.get());
                    note = check_notes(bytes.ok_or(ElfError::BadHeaders)?, accept.kind);
                }
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(ElfError::NoSegments);
        }
        let tables = note?;
        let entry = header.entry.get();
        if !segments.iter().any(|s| s.execute && entry >= s.address && entry - s.address < s.memory_bytes) {
            return Err(ElfError::BadEntry(entry));
        }
        Ok(Elf { entry, segments, tables })
    }
}

fn check_segment(
    program: &ProgramHeader,
    file: &[u8],
    accept: Accept,
    others: &[Segment],
) -> Result<Segment, ElfError> {
    let flags = program.flags.get();
    let segment = Segment {
        address: program.address.get(),
        memory_bytes: program.memory_bytes.get(),
        file_offset: program.offset.get(),
        file_bytes: program.file_bytes.get(),
        write: flags & FLAG_WRITE != 0,
        execute: flags & FLAG_EXECUTE != 0,
        hole: flags & (FLAG_READ | FLAG_WRITE | FLAG_EXECUTE) == 0,
    };
    let at = segment.address;
    if segment.hole && (segment.file_bytes != 0 || accept.kind == KIND_COMPONENT) {
        return Err(ElfError::BadHole(at));
    }
    if segment.write && segment.execute {
        return Err(ElfError::WritableExecutable(at));
    }
    if !at.is_multiple_of(PAGE_SIZE) || !segment.file_offset.is_multiple_of(PAGE_SIZE) {
        return Err(ElfError::Unaligned(at));
    }
    if segment.file_bytes > segment.memory_bytes {
        return Err(ElfError::BadSize(at));
    }
    if at < accept.low || at > accept.high || segment.memory_bytes > accept.high - at || segment.end() > accept.high {
        return Err(ElfError::OutOfRange(at));
    }
    if range(file, segment.file_offset, segment.file_bytes).is_none() {
        return Err(ElfError::Truncated(at));
    }
    if others.iter().any(|other| segment.address < other.end() && other.address < segment.end()) {
        return Err(ElfError::Overlap(at));
    }
    Ok(segment)
}

fn range(file: &[u8], offset: u64, bytes: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(bytes)?).ok()?;
    file.get(start..end)
}

/// Looks for our notes among others: the first that says what the module is counts, and the first that says what its tables take.
/// Each step takes at least twelve bytes, so the file's size bounds the loop.
fn check_notes(mut notes: &[u8], kind: u32) -> Result<TableBytes, ElfError> {
    let mut found = false;
    let mut tables = None;
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    while let (Some(name), Some(desc), Some(note_type)) = (word(notes, 0), word(notes, 4), word(notes, 8)) {
        let padded = |bytes: u32| usize::try_from(bytes).ok()?.checked_next_multiple_of(4);
        let (Some(name_bytes), Some(desc_bytes)) = (padded(name), padded(desc)) else { break };
        let Some(end) = name_bytes.checked_add(desc_bytes).and_then(|bytes| bytes.checked_add(12)) else { break };
        let Some(this) = notes.get(..end) else { break };
        let ours = name == 8 && this.get(12..20) == Some(&NOTE_NAME[..]);
        if ours && desc == 8 && note_type == NOTE_TYPE && !found {
            let (note, _) = Note::read_from_prefix(this).map_err(|_| ElfError::NoNote)?;
            if note.abi_version != abi::ABI_VERSION {
                return Err(ElfError::WrongVersion(note.abi_version));
            }
            if note.kind != kind {
                return Err(ElfError::WrongKind);
            }
            found = true;
        }
        if ours && desc == 16 && note_type == TABLES_TYPE && tables.is_none() {
            tables = TablesNote::read_from_prefix(this).ok().map(|(note, _)| note.tables);
        }
        notes = &notes[end..];
    }
    if found { Ok(tables.unwrap_or_default()) } else { Err(ElfError::NoNote) }
}
