//! ELF files that tests take.

use abi::note::Note;
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::IntoBytes;

/// A program header: type, flags, offset, address, bytes in the file, bytes in memory.
pub type Header = (u32, u32, u64, u64, u64, u64);

/// A header of the note at 0x1f00.
pub const NOTE: Header = (4, 4, 0x1f00, 0, 28, 28);

/// An ELF file with these headers, of 0x3000 bytes; its note lies where [`NOTE`] says.
///
/// # Panics
/// More than some hundred headers.
pub fn file_with(entry: u64, headers: &[Header], note: Note) -> Vec<u8> {
    let mut file = vec![0; 0x3000];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &u16::try_from(headers.len()).expect("few").to_le_bytes());
    for (i, &(kind, flags, offset, address, file_bytes, memory_bytes)) in headers.iter().enumerate() {
        let at = 64 + 56 * i;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (j, word) in [offset, address, address, file_bytes, memory_bytes, 4096].iter().enumerate() {
            put(at + 8 + 8 * j, &word.to_le_bytes());
        }
    }
    put(0x1f00, note.as_bytes());
    file
}
