//! Room for VMs, and those of `vms=`: what each is to be is written into the records and cells that the core goes on with.

use crate::map::EARLY_END;
use crate::memory::{Frames, Owner, OwnerClass, PhysAddr, core_slice_below};
use crate::options::{Options, VmRequest};
use crate::vm_list::VmList;
use abi::addresses::Net;
use abi::boot::{BootRecord, Extent, Vms, program};
use abi::limits::{MAX_SEATS, MAX_SLOTS, PAGE_SIZE};
use abi::manifest::Image;
use abi::record::{Args, Cell, NONE, PIECE_BYTES, Record, cells_for};
use abi::terms::Terms;
use abi::vm::{ImageId, Slot};
use boot_args::{BootArgs, TooLong, compose};
use core::fmt;

/// Frames per seat, unless the boot options say how many seats there are: a machine has as many as it could have VMs that are small and
/// share nearly everything.
const FRAMES_PER_SEAT: u64 = 16;
/// Frames per VM slot: a VM that waits takes none.
const FRAMES_PER_SLOT: u64 = 8;
/// What a slot takes at most, over core and components.
pub const MOST_SLOT_BYTES: u64 = 512;
/// Cells for boot arguments beyond one for each slot: where there are few slots, some VMs may have long ones all the same.
const MORE_CELLS: usize = 256;

/// How many VMs a machine has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Slots: VMs that live.
    pub slots: usize,
    /// Seats: VMs that are admitted. Not more than slots.
    pub seats: usize,
}

impl Places {
    /// What the options ask for; where they say nothing, as many as the free frames are good for, and as many slots as VMs are asked for.
    pub fn new(options: &Options, asked: usize, free_frames: u64) -> Self {
        let by_memory = |frames_each: u64, most: usize| {
            usize::try_from(free_frames / frames_each).map_or(most, |places| places.clamp(1, most))
        };
        let slots = match options.slots {
            None => by_memory(FRAMES_PER_SLOT, MAX_SLOTS).max(asked),
            Some(slots) => slots as usize,
        };
        let seats = match options.seats {
            None => by_memory(FRAMES_PER_SEAT, MAX_SEATS),
            Some(seats) => seats as usize,
        };
        Places { slots: slots.min(MAX_SLOTS), seats: seats.min(MAX_SEATS).min(slots) }
    }

    /// Half as many slots, unless more are asked for.
    fn halved(self, options: &Options, asked: usize) -> Option<Self> {
        let slots = (self.slots / 2).max(asked).max(1);
        let fewer = options.slots.is_none() && slots < self.slots;
        fewer.then_some(Places { slots, seats: self.seats.min(slots) })
    }
}

/// Why VMs are not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// The image was refused.
    UnknownImage,
    /// All slots are taken.
    SlotsTaken,
    /// There is no room for their boot arguments.
    CellsTaken,
    /// Their boot arguments do not fit.
    TooLong(TooLong),
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotWritten::UnknownImage => {
                f.write_str("the image was refused when it was loaded; look further up in the log")
            }
            NotWritten::SlotsTaken => {
                f.write_str("every slot for VMs is taken; ask for fewer, or boot with more (slots=)")
            }
            NotWritten::CellsTaken => f.write_str("there is no room for their boot arguments; ask for fewer"),
            NotWritten::TooLong(error) => write!(f, "{error}"),
        }
    }
}

/// VMs of one image that are not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// How many.
    pub count: u32,
    /// The image's place in the manifest.
    pub image: u32,
    pub why: NotWritten,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { count, image, why } = self;
        write!(f, "{count} VMs of image {image} are not created: {why}")
    }
}

/// There is no room for the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom(pub Places);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Places { slots, seats } = self.0;
        write!(f, "no room for {slots} slots and {seats} seats of VMs; ask for fewer (slots=, seats=)")
    }
}

/// Places the tables of as many VMs, writes those of the list into them, and says in the record where they are. What
/// cannot be written is given to `missing`.
///
/// # Errors
/// [`NoRoom`].
pub fn place(
    record: &mut BootRecord,
    options: &Options,
    list: VmList<'_>,
    frames: &mut Frames,
    missing: impl FnMut(Missing),
) -> Result<(), NoRoom> {
    let images = record.images();
    let image = |number: u32| {
        let image = images.get(number as usize).filter(|image| image.program.state == program::GOOD);
        image.map(|image| &image.entry)
    };
    // What the loader still holds is for VMs.
    let (requests, asked) = (list.requests(), list.count());
    let free_frames = frames.free_frames() + frames.count_of(OwnerClass::Loader);
    let mut places = Places::new(options, asked, free_frames);
    let more = MORE_CELLS + more_cells(requests.clone(), image, &options.net);
    let (records, cells) = loop {
        if let Some(tables) = tables(frames, places.slots, places.slots + more) {
            break tables;
        }
        // The more memory, the more slots; but the loader sees what is below 4 GiB only.
        places = places.halved(options, asked).ok_or(NoRoom(places))?;
    };
    let written = write(requests, &options.net, image, records, cells, missing);
    record.vms = Vms {
        records: extent(records),
        cells: extent(cells),
        // Both are far below 2^32.
        slots: u32::try_from(places.slots).unwrap_or(0),
        seats: u32::try_from(places.seats).unwrap_or(0),
        written: written.slots,
        written_cells: written.cells,
    };
    Ok(())
}

type Tables = (&'static mut [Record], &'static mut [Cell]);

/// So many records and cells, for good.
fn tables(frames: &mut Frames, records: usize, cells: usize) -> Option<Tables> {
    let cells = core_slice_below(frames, EARLY_END, cells, Cell::EMPTY)?;
    let records = core_slice_below(frames, EARLY_END, records, Record::EMPTY);
    if records.is_none() {
        let Extent { start, bytes } = extent(cells);
        frames.free_range(start / PAGE_SIZE, (start + bytes) / PAGE_SIZE, Owner::Core);
    }
    Some((records?, cells))
}

fn extent<T>(table: &[T]) -> Extent {
    let bytes = size_of_val(table) as u64;
    Extent { start: PhysAddr::of(table.as_ptr()).as_u64(), bytes: bytes.next_multiple_of(PAGE_SIZE) }
}

/// What is written into the first slots and cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Slots from 0 on.
    pub slots: u32,
    /// Cells from 0 on.
    pub cells: u32,
}

/// How many cells the arguments of all these VMs take beyond one each, at most.
fn more_cells<'i>(
    requests: impl Iterator<Item = VmRequest>,
    image: impl Fn(u32) -> Option<&'i Image>,
    net: &Net,
) -> usize {
    // The longest address of all.
    let longest = |image: &Image| {
        let mut args = BootArgs::new();
        match compose(&mut args, &image.args, net, u32::MAX, &[]) {
            Ok(()) => cells_for(args.len()),
            Err(_) => 0,
        }
    };
    let more = |request: VmRequest| {
        let each = image(request.image).map_or(0, longest).saturating_sub(1);
        each.saturating_mul(request.count as usize)
    };
    requests.map(more).sum()
}

/// Writes the VMs of `requests`, in their order, into the first records, and their arguments into the first cells. `image` gives
/// those of the manifest's images that were not refused.
fn write<'i>(
    requests: impl Iterator<Item = VmRequest>,
    net: &Net,
    image: impl Fn(u32) -> Option<&'i Image>,
    records: &mut [Record],
    cells: &mut [Cell],
    mut missing: impl FnMut(Missing),
) -> Written {
    let mut place = Place { records, cells, written: Written::default() };
    let mut args = BootArgs::new();
    for request in requests {
        let mut left = request.count;
        let result = match image(request.image) {
            Some(image) => place.write_all(&mut left, &request, image, net, &mut args),
            None => Err(NotWritten::UnknownImage),
        };
        if let Err(why) = result {
            missing(Missing { count: left, image: request.image, why });
        }
    }
    place.written
}

struct Place<'a> {
    records: &'a mut [Record],
    cells: &'a mut [Cell],
    written: Written,
}

impl Place<'_> {
    /// Writes `left` VMs of an image, and counts them down.
    fn write_all(
        &mut self,
        left: &mut u32,
        request: &VmRequest,
        image: &Image,
        net: &Net,
        args: &mut BootArgs,
    ) -> Result<(), NotWritten> {
        let id = ImageId::new(request.image);
        let disk = request.disk.or(image.disk);
        while *left > 0 {
            let slot = Slot::new(self.written.slots);
            let record = self.records.get_mut(slot.index()).ok_or(NotWritten::SlotsTaken)?;
            let ipv4 = net.address_of(slot);
            compose(args, &image.args, net, ipv4, &[]).map_err(NotWritten::TooLong)?;
            let args = lay(self.cells, &mut self.written.cells, args).ok_or(NotWritten::CellsTaken)?;
            let claim = image.claim().with_disk(disk);
            let terms = Terms { share: image.share(), claim, tenant: image.tenant(), disk };
            *record = Record::written(id, terms, ipv4, args);
            self.written.slots += 1;
            *left -= 1;
        }
        Ok(())
    }
}

/// Writes arguments into the cells from number `at` on, which nobody has used yet, and moves `at` behind them. `None` when there
/// are not enough cells; nothing has changed then.
fn lay(cells: &mut [Cell], at: &mut u32, args: &[u8]) -> Option<Args> {
    if args.is_empty() {
        return Some(Args::EMPTY);
    }
    let first = *at;
    let end = first.checked_add(u32::try_from(cells_for(args.len())).ok()?)?;
    let free = cells.get_mut(first as usize..end as usize)?;
    for ((cell, piece), next) in free.iter_mut().zip(args.chunks(PIECE_BYTES)).zip(first + 1..) {
        *cell = Cell::new(piece, if next == end { NONE } else { next });
    }
    *at = end;
    Some(Args::at(first))
}

#[cfg(test)]
#[path = "vms_test.rs"]
mod tests;
