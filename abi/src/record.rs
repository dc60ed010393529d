//! What the core keeps of the VM in each slot: a record, and its boot arguments in cells that the record points into.
//!
//! Both tables are placed by the loader, which writes the VMs of `vms=` into the first records and cells, in the form that the core goes
//! on with. To the core what is written there is an allegation: it is checked before anybody is told of these VMs.

use crate::attachment::Attachment;
use crate::charges::{Charges, DiskUse};
use crate::claim::Claim;
use crate::share::Share;
use crate::swap::Bundle;
use crate::tenant::Tenant;
use crate::terms::Terms;
use crate::vm::ImageId;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// "No slot", "no cell".
pub const NONE: u32 = u32::MAX;

/// [`Record::place`]: where the VM of a slot is.
pub mod place {
    /// There is none.
    pub const FREE: u32 = 0;
    /// The loader has written what it is to be, and nobody has been told of it yet.
    pub const WRITTEN: u32 = 1;
    /// It waits for the gatekeeper, and has nothing but its record.
    pub const WAITING: u32 = 2;
    /// It has a context.
    pub const ADMITTED: u32 = 3;
    /// It is out, and has nothing but its record, and where it has run its bundle in the pool: nobody has asked for it yet.
    pub const OUT: u32 = 4;
}

/// What the core knows of a VM from its creation to its end, whether it was admitted or not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Record {
    /// [`place`].
    pub place: u32,
    /// The next free slot, where this one was freed; while the VM is out, the frame number of what says which of its pages went out one by one; [`NONE`] for none.
    pub next: u32,
    /// Counts the VMs that have lived in the slot.
    pub generation: u32,
    /// What the VM is created from.
    pub image: ImageId,
    /// IPv4 address that it may use, 0 when it asks DHCP.
    pub ipv4: u32,
    /// The start of the scheduler that keeps it back while it waits, 0 for none.
    pub held_by: u32,
    /// What policies are told that it gets.
    pub share: Share,
    /// What it may claim of the machine's memory.
    pub claim: Claim,
    /// Its boot arguments, until it is admitted.
    pub args: Args,
    /// Whose it is ([`crate::tenant::Tenant::raw`]), 0 where neither its creator nor its image says.
    pub tenant: u32,
    /// How far the TSC was ahead of the core's steady time then, in milliseconds.
    pub stolen_ms: u32,
    /// TSC at which its creation began.
    pub created_tsc: u64,
    /// What was made pending before its admission, when it had no register page yet.
    pub early: u64,
    /// The virtual disk that it has.
    pub disk: Attachment,
    /// Frames that it held when it went out: as many are enough for it to come in. 0 when it has not.
    pub frames: u32,
    /// What of it lies in the pool, from when it has gone out until it has come in.
    pub bundle: Bundle,
    /// Ticks that it had run when it went out.
    pub ran_ticks: u64,
    /// What was charged to it beside until then.
    pub charges: Charges,
    /// What was done with its virtual disk, wherever the VM is.
    pub disk_use: DiskUse,
}

impl Record {
    /// A slot that was never used.
    pub const EMPTY: Record = Record {
        place: place::FREE,
        next: NONE,
        generation: 0,
        image: ImageId::new(0),
        ipv4: 0,
        held_by: 0,
        share: Share::UNSAID,
        claim: Claim::UNSAID,
        args: Args::EMPTY,
        tenant: 0,
        stolen_ms: 0,
        created_tsc: 0,
        early: 0,
        disk: Attachment::NONE,
        frames: 0,
        bundle: Bundle::NONE,
        ran_ticks: 0,
        charges: Charges::NONE,
        disk_use: DiskUse::NONE,
    };

    /// The first VM of its slot, which boot asks for: of an image, on these terms, at this address, with these arguments.
    #[must_use]
    pub const fn written(image: ImageId, terms: Terms, ipv4: u32, args: Args) -> Self {
        let Terms { share, claim, tenant, disk } = terms;
        let tenant = tenant.raw();
        Record { place: place::WRITTEN, generation: 1, image, ipv4, share, claim, args, tenant, disk, ..Record::EMPTY }
    }

    /// Whose it is. What is no name's number is nobody's.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant::from_raw(self.tenant).unwrap_or_default()
    }
}

/// Where the boot arguments of a VM begin.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Args(u32);

impl Args {
    /// No arguments; they take no cell.
    pub const EMPTY: Args = Args(NONE);

    /// Those that begin in the cell of this number.
    #[must_use]
    pub const fn at(cell: u32) -> Args {
        Args(cell)
    }

    /// The number of their first cell, [`NONE`] when there are no arguments.
    #[must_use]
    pub const fn first(self) -> u32 {
        self.0
    }
}

/// Bytes of arguments in a [`Cell`].
pub const PIECE_BYTES: usize = 59;

/// A piece of somebody's arguments.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Cell {
    /// The next piece; of a free cell, the next free one; [`NONE`] for none.
    pub next: u32,
    /// Bytes of the piece that are used.
    pub len: u8,
    /// The bytes.
    pub bytes: [u8; PIECE_BYTES],
}

impl Cell {
    /// A cell that was never used.
    pub const EMPTY: Cell = Cell { next: NONE, len: 0, bytes: [0; PIECE_BYTES] };

    /// A cell that holds a piece, of which [`PIECE_BYTES`] are kept, and behind which `next` comes.
    #[must_use]
    pub fn new(piece: &[u8], next: u32) -> Self {
        let mut bytes = [0; PIECE_BYTES];
        let kept = piece.len().min(PIECE_BYTES);
        bytes[..kept].copy_from_slice(&piece[..kept]);
        // Not more than a cell has.
        let len = u8::try_from(kept).unwrap_or(0);
        Cell { next, len, bytes }
    }
}

/// How many cells so many bytes of arguments take.
#[must_use]
pub const fn cells_for(bytes: usize) -> usize {
    bytes.div_ceil(PIECE_BYTES)
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Record>() <= 184, "what a slot may cost in the core");
    assert!(size_of::<Record>() == 184 && align_of::<Record>() == 8);
    assert!(offset_of!(Record, place) == 0 && offset_of!(Record, next) == 4 && offset_of!(Record, generation) == 8);
    assert!(offset_of!(Record, image) == 12 && offset_of!(Record, ipv4) == 16 && offset_of!(Record, held_by) == 20);
    assert!(offset_of!(Record, share) == 24 && offset_of!(Record, claim) == 36);
    assert!(offset_of!(Record, args) == 44 && offset_of!(Record, tenant) == 48 && offset_of!(Record, stolen_ms) == 52);
    assert!(offset_of!(Record, created_tsc) == 56 && offset_of!(Record, early) == 64);
    assert!(offset_of!(Record, disk) == 72 && offset_of!(Record, frames) == 92);
    assert!(offset_of!(Record, bundle) == 96 && offset_of!(Record, ran_ticks) == 128);
    assert!(offset_of!(Record, charges) == 136 && offset_of!(Record, disk_use) == 176);
    assert!(size_of::<Claim>() == 8 && offset_of!(Claim, limit) == 4);
    assert!(size_of::<Share>() == 12 && offset_of!(Share, rate) == 4 && offset_of!(Share, burst) == 8);
    assert!(size_of::<Cell>() == 64 && offset_of!(Cell, len) == 4 && offset_of!(Cell, bytes) == 5);
};
