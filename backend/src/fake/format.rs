//! Entries of the fake CPU's nested page tables.

use crate::{EntryFormat, Rights};

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;

/// Read, write, execute in bits 0 to 2, as EPT has them.
#[derive(Debug)]
pub struct FakeFormat;

impl EntryFormat for FakeFormat {
    const PRESENT: u64 = READ | WRITE | EXECUTE;
    const TABLE: u64 = READ | WRITE | EXECUTE;
    const LEAF: u64 = 0;
    const ACCESSED: u64 = 1 << 8;
    const DIRTY: u64 = 1 << 9;

    fn bits(rights: Rights) -> u64 {
        READ | if rights.write { WRITE } else { 0 } | if rights.execute { EXECUTE } else { 0 }
    }

    fn rights(entry: u64) -> Rights {
        Rights { write: entry & WRITE != 0, execute: entry & EXECUTE != 0 }
    }
}
