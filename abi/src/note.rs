//! The ELF note by which the core tells its own modules from others'.
//!
//! Section `.note.foraker` (segment `PT_NOTE`): name `"Foraker\0"`, type 1, and the eight descriptor bytes of [`Note`].

use crate::ABI_VERSION;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The note's name with its terminating zero.
pub const NOTE_NAME: [u8; 8] = *b"Foraker\0";
/// The note's type.
pub const NOTE_TYPE: u32 = 1;
/// `kind` of a component.
pub const KIND_COMPONENT: u32 = 1;
/// `kind` of a guest image.
pub const KIND_GUEST: u32 = 2;
/// `kind` of the core for VT-x.
pub const KIND_CORE_VMX: u32 = 3;
/// `kind` of the core for AMD SVM.
pub const KIND_CORE_SVM: u32 = 4;
/// Beside the `kind` of a core: it has the hooks of `selftest=`, which no core but that of the test image has.
pub const WITH_SELFTEST: u32 = 1 << 8;

/// The whole note as it lies in the image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Note {
    /// Bytes of `name`: 8.
    pub name_size: u32,
    /// Bytes of `desc`: 8.
    pub desc_size: u32,
    /// [`NOTE_TYPE`].
    pub note_type: u32,
    /// [`NOTE_NAME`].
    pub name: [u8; 8],
    /// [`crate::ABI_VERSION`] of the build.
    pub abi_version: u32,
    /// [`KIND_COMPONENT`] or [`KIND_GUEST`].
    pub kind: u32,
}

const _: () = assert!(core::mem::size_of::<Note>() == 28);

/// The type of [`TablesNote`].
pub const TABLES_TYPE: u32 = 2;

/// A second note, behind the first, of components with tables that have an entry for each seat or slot: what they need at
/// [`crate::component::layout::TABLES`]. Core and all policies of a component agree by it on memory that is as large as the machine asks for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TablesNote {
    /// Bytes of `name`: 8.
    pub name_size: u32,
    /// Bytes of `tables`: 16.
    pub desc_size: u32,
    /// [`TABLES_TYPE`].
    pub note_type: u32,
    /// [`NOTE_NAME`].
    pub name: [u8; 8],
    /// What is asked for.
    pub tables: TableBytes,
}

const _: () = assert!(core::mem::size_of::<TablesNote>() == 36);

/// What a program's tables take.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TableBytes {
    /// Bytes for each of the machine's slots.
    pub per_slot: u32,
    /// Bytes for each of the machine's seats.
    pub per_seat: u32,
    /// Bytes of kept memory for each seat, in addition to what the manifest gives.
    pub keep_per_seat: u32,
    /// Bytes for each seat, in addition, where VMs can go out.
    pub pooled_per_seat: u32,
}

impl TableBytes {
    /// For a program without such tables.
    pub const NONE: TableBytes = TableBytes { per_slot: 0, per_seat: 0, keep_per_seat: 0, pooled_per_seat: 0 };

    /// What both programs can work with.
    #[must_use]
    pub const fn max(self, other: TableBytes) -> TableBytes {
        const fn larger(one: u32, other: u32) -> u32 {
            if one > other { one } else { other }
        }
        TableBytes {
            per_slot: larger(self.per_slot, other.per_slot),
            per_seat: larger(self.per_seat, other.per_seat),
            keep_per_seat: larger(self.keep_per_seat, other.keep_per_seat),
            pooled_per_seat: larger(self.pooled_per_seat, other.pooled_per_seat),
        }
    }

    /// Bytes of kept memory on a machine of that size.
    pub const fn keep(self, seats: usize) -> u64 {
        // Widening only.
        #[allow(clippy::cast_lossless)]
        {
            self.keep_per_seat as u64 * seats as u64
        }
    }

    /// Bytes on a machine of that size: those of the tables, and what aligning them takes ([`TABLES_MAX`] of them). `pooled`: VMs can go out there.
    pub const fn total(self, slots: usize, seats: usize, pooled: bool) -> u64 {
        // Widening only; and the limits keep it far below 2^64.
        #[allow(clippy::cast_lossless)]
        {
            let per_seat = self.per_seat as u64 + if pooled { self.pooled_per_seat as u64 } else { 0 };
            let tables = self.per_slot as u64 * slots as u64 + per_seat * seats as u64;
            if tables == 0 { 0 } else { tables + (TABLES_MAX * TABLE_ALIGN) as u64 }
        }
    }
}

/// Tables that a program has at most,
pub const TABLES_MAX: usize = 32;
/// and what they are aligned to.
pub const TABLE_ALIGN: usize = 16;

impl TablesNote {
    /// The note of a program with these tables.
    pub const fn new(tables: TableBytes) -> TablesNote {
        TablesNote { name_size: 8, desc_size: 16, note_type: TABLES_TYPE, name: NOTE_NAME, tables }
    }
}

impl Note {
    /// The note of an image of `kind` that is built against this crate.
    pub const fn new(kind: u32) -> Note {
        Note { name_size: 8, desc_size: 8, note_type: NOTE_TYPE, name: NOTE_NAME, abi_version: ABI_VERSION, kind }
    }
}
