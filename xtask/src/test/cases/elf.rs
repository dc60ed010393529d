//! Changing the segments of an ELF64 file (System V ABI, chapter 5), to make images that must be refused.

use crate::error::{Result, fail};

/// Flag of a segment that can be read.
pub const READ: u32 = 4;
/// Flag of a segment that can be written.
pub const WRITE: u32 = 2;
/// Flag of a segment that can be executed.
pub const EXECUTE: u32 = 1;
/// Type of a loadable segment.
const LOAD: u32 = 1;
/// Offsets in the file header: of the program headers, their size, their number.
const PROGRAM_OFFSET: usize = 32;
/// See [`PROGRAM_OFFSET`].
const PROGRAM_SIZE: usize = 54;
/// See [`PROGRAM_OFFSET`].
const PROGRAM_COUNT: usize = 56;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// [`READ`], [`WRITE`], [`EXECUTE`].
    pub flags: u32,
    /// Where it is loaded.
    pub address: u64,
    /// Bytes that it takes there.
    pub memory_bytes: u64,
}

/// Lets `change` change the loadable segments of `file`, and writes them back.
pub fn change_segments(file: &mut [u8], change: impl FnOnce(&mut Vec<Segment>)) -> Result<()> {
    let offsets = headers(file)?;
    let mut segments: Vec<Segment> = offsets
        .iter()
        .map(|&at| Segment {
            flags: u32::from_le_bytes(bytes(file, at + 4)),
            address: u64::from_le_bytes(bytes(file, at + 16)),
            memory_bytes: u64::from_le_bytes(bytes(file, at + 40)),
        })
        .collect();
    if segments.len() < 2 {
        fail!("the image has {} loadable segments; the tests need two", segments.len());
    }
    change(&mut segments);
    for (&at, segment) in offsets.iter().zip(&segments) {
        file[at + 4..at + 8].copy_from_slice(&segment.flags.to_le_bytes());
        file[at + 16..at + 24].copy_from_slice(&segment.address.to_le_bytes());
        file[at + 40..at + 48].copy_from_slice(&segment.memory_bytes.to_le_bytes());
    }
    Ok(())
}

/// Offsets of the loadable segments' headers. The file is our own linker's work.
fn headers(file: &[u8]) -> Result<Vec<usize>> {
    if file.get(..4) != Some(b"\x7fELF") || file.len() < 64 {
        fail!("the image is no ELF file");
    }
    let start = usize::try_from(u64::from_le_bytes(bytes(file, PROGRAM_OFFSET))).unwrap_or(usize::MAX);
    let size = usize::from(u16::from_le_bytes(bytes(file, PROGRAM_SIZE)));
    let count = usize::from(u16::from_le_bytes(bytes(file, PROGRAM_COUNT)));
    let all = (0..count).map(|i| start + i * size);
    Ok(all.filter(|&at| u32::from_le_bytes(bytes(file, at)) == LOAD).collect())
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&file[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_changed_in_place() {
        let mut file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut before = Vec::new();
        change_segments(&mut file, |segments| {
            before = segments.clone();
            segments[1].flags = 7;
        })
        .unwrap();
        assert!(before.len() >= 2);
        change_segments(&mut file, |segments| {
            assert_eq!(segments[1].flags, 7);
            assert_eq!(segments[0], before[0]);
        })
        .unwrap();
        assert!(change_segments(&mut [0; 100], |_| {}).is_err());
    }
}
