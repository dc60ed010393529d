//! What is on a Foraker disk, and which disks belong together.
//!
//! `docs/disk-format.md` explains it byte by byte. This library reads and makes the structures, does the arithmetic of striping, and
//! [recognises](recognise) sets; it never touches a disk itself, so the same code runs in a component, in xtask and in tests.
//! Whatever was read from a disk is an allegation: a structure that is returned has been checked as far as its own bytes go.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod block;
mod change;
mod checks;
mod directory;
mod layout;
mod look;
mod name;
mod recognition;
mod stripe;
mod superblock;

pub use crate::block::{BLOCK_BYTES, Block, checksum, is_blank, zeroed};
pub use crate::change::{Change, STEPS, Step};
pub use crate::checks::{CHECKS_PER_BLOCK, Check, Checked, Sum, check_blocks, place_of_check};
pub use crate::directory::{
    ENTRY_BYTES, Entry, EntryRaw, Fault, Kind, MAX_DEPTH, checked, depth, directory_checksum, entry_at, entry_of, pack,
};
pub use crate::layout::{ENTRIES_PER_BLOCK, Layout, MAX_ENTRIES, MEMBER_BLOCKS_MIN, Place};
pub use crate::look::{Member, Seen, look};
pub use crate::name::EntryName;
pub use crate::recognition::{Problem, Set, recognise};
pub use crate::stripe::{Piece, Stripes};
pub use crate::superblock::{Flaw, MAGIC, MAX_MEMBERS, SetId, State, Superblock, SuperblockRaw, VERSION};
