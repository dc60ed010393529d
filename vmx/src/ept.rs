//! Extended page tables (SDM vol. 3, 29.3): guest-physical to physical, four levels, pages of 4 KiB.

use backend::{EntryFormat, FourLevel, Rights};

/// The bits of an entry (SDM vol. 3, tables 29-1 to 29-7).
#[derive(Debug)]
pub struct EptEntry;

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const WRITE_BACK: u64 = 6 << 3;
/// The guest's PAT does not matter: nobody sees a frame with two memory types.
const IGNORE_PAT: u64 = 1 << 6;

impl EntryFormat for EptEntry {
    const PRESENT: u64 = READ | WRITE | EXECUTE;
    const TABLE: u64 = READ | WRITE | EXECUTE;
    const LEAF: u64 = WRITE_BACK | IGNORE_PAT;
    const ACCESSED: u64 = 1 << 8;
    const DIRTY: u64 = 1 << 9;

    /// A page can always be read; write-only and execute-only entries, which CPUs may refuse, cannot be expressed.
    #[inline]
    fn bits(rights: Rights) -> u64 {
        READ | if rights.write { WRITE } else { 0 } | if rights.execute { EXECUTE } else { 0 }
    }

    #[inline]
    fn rights(entry: u64) -> Rights {
        Rights { write: entry & WRITE != 0, execute: entry & EXECUTE != 0 }
    }
}

/// The EPT of one VM.
pub type Ept = FourLevel<EptEntry>;

/// Bits of the EPT pointer (SDM vol. 3, table 25-9): the tables are cached write-back, and have four levels.
const POINTER: u64 = 6 | 3 << 3;
const POINTER_ACCESSED_DIRTY: u64 = 1 << 6;

/// For the VMCS, and the context of INVEPT.
#[inline]
pub(crate) fn pointer(tables: &Ept) -> u64 {
    pointer_to(tables.root(), tables.tracks())
}

#[inline]
fn pointer_to(root: u64, tracks: bool) -> u64 {
    root | POINTER | if tracks { POINTER_ACCESSED_DIRTY } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_what_the_sdm_says() {
        // Read, write, write-back, ignore PAT.
        assert_eq!(Ept::leaf(0x7_1234_5000, Rights::READ_WRITE), 0x7_1234_5000 | 0x73);
        assert_eq!(Ept::leaf(0x1000, Rights::READ_EXECUTE), 0x1075);
        for rights in [Rights::READ, Rights::READ_EXECUTE, Rights::READ_WRITE, Rights::ALL] {
            assert_eq!(EptEntry::rights(EptEntry::bits(rights)), rights);
            assert_eq!(EptEntry::bits(rights) & READ, READ);
        }
        assert_eq!(EptEntry::TABLE, 7);
    }

    #[test]
    fn the_pointer_says_four_levels_and_write_back() {
        assert_eq!(pointer_to(0x5000, true), 0x505e);
        assert_eq!(pointer_to(0x5000, false), 0x501e);
    }
}
