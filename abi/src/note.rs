//! The ELF note by which the core tells its own modules from others'.
//!
//! Section `.note.foraker` (segment `PT_NOTE`): name `"Foraker\0"`, type 1, and the eight descriptor bytes of [`NoteDesc`].

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

impl Note {
    /// The note of an image of `kind` that is built against this crate.
    pub const fn new(kind: u32) -> Note {
        Note { name_size: 8, desc_size: 8, note_type: NOTE_TYPE, name: NOTE_NAME, abi_version: ABI_VERSION, kind }
    }
}
