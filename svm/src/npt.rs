//! Nested page tables (APM vol. 2, 15.25): guest-physical to physical, four levels, pages of 4 KiB.

use backend::{EntryFormat, FourLevel, Rights};

/// The bits of an entry (APM vol. 2, 5.4): those of an ordinary long-mode page table.
#[derive(Debug)]
pub struct NptEntry;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
/// A guest's accesses count as those of user mode (APM vol. 2, 15.25.5).
const USER: u64 = 1 << 2;
const NO_EXECUTE: u64 = 1 << 63;

impl EntryFormat for NptEntry {
    const PRESENT: u64 = PRESENT;
    const TABLE: u64 = PRESENT | WRITE | USER;
    /// Write-back: PAT entry 0.
    const LEAF: u64 = 0;
    const ACCESSED: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;

    #[inline]
    fn bits(rights: Rights) -> u64 {
        PRESENT | USER | if rights.write { WRITE } else { 0 } | if rights.execute { 0 } else { NO_EXECUTE }
    }

    #[inline]
    fn rights(entry: u64) -> Rights {
        Rights { write: entry & WRITE != 0, execute: entry & NO_EXECUTE == 0 }
    }
}

/// The nested page tables of one VM.
pub type Npt = FourLevel<NptEntry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_what_the_apm_says() {
        assert_eq!(Npt::leaf(0x7_1234_5000, Rights::READ_WRITE), 1 << 63 | 0x7_1234_5007);
        assert_eq!(Npt::leaf(0x1000, Rights::READ_EXECUTE), 0x1005);
        assert_eq!(Npt::leaf(0x1000, Rights::ALL), 0x1007);
        assert_eq!(NptEntry::TABLE, 7);
        for rights in [Rights::READ, Rights::READ_EXECUTE, Rights::READ_WRITE, Rights::ALL] {
            assert_eq!(NptEntry::rights(NptEntry::bits(rights)), rights);
            assert_eq!(NptEntry::bits(rights) & !(WRITE | NO_EXECUTE), PRESENT | USER);
        }
    }
}
