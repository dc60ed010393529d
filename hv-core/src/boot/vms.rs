//! The VMs of `vms=`: what each is to be is written into the records and cells in place, before anybody runs. Nothing here
//! knows of the kernel, which finds them there.

use crate::boot::options::VmRequest;
use crate::vm::{Cell, Record, Written, cells_for, lay};
use abi::addresses::Net;
use abi::manifest::Image;
use abi::vm::{ImageId, Slot};
use boot_args::{BootArgs, TooLong, compose};
use core::fmt;

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

/// How many cells the arguments of all these VMs take beyond one each, at most.
pub fn more_cells<'i>(requests: &[VmRequest], image: impl Fn(usize) -> Option<&'i Image>, net: &Net) -> usize {
    // The longest address of all.
    let longest = |image: &Image| {
        let mut args = BootArgs::new();
        match compose(&mut args, &image.args, net, u32::MAX, &[]) {
            Ok(()) => cells_for(args.len()),
            Err(_) => 0,
        }
    };
    let more = |request: &VmRequest| {
        let each = image(request.image as usize).map_or(0, longest).saturating_sub(1);
        each.saturating_mul(request.count as usize)
    };
    requests.iter().map(more).sum()
}

/// Write the VMs of `requests`, in their order, into the first records, and their arguments into the first cells. `image` gives
/// those of the manifest's images that were not refused. What cannot be written is given to `missing`.
pub fn write<'i>(
    requests: &[VmRequest],
    net: &Net,
    image: impl Fn(usize) -> Option<&'i Image>,
    records: &mut [Record],
    cells: &mut [Cell],
    mut missing: impl FnMut(Missing),
) -> Written {
    let mut written = Written::default();
    let mut args = BootArgs::new();
    for request in requests {
        let mut left = request.count;
        let result = match image(request.image as usize) {
            Some(image) => {
                let mut place = Place { records: &mut *records, cells: &mut *cells, written: &mut written };
                place.write_all(&mut left, request.image, image, net, &mut args)
            }
            None => Err(NotWritten::UnknownImage),
        };
        if let Err(why) = result {
            missing(Missing { count: left, image: request.image, why });
        }
    }
    written
}

struct Place<'a> {
    records: &'a mut [Record],
    cells: &'a mut [Cell],
    written: &'a mut Written,
}

impl Place<'_> {
    /// Write `left` VMs of an image, and count them down.
    fn write_all(
        &mut self,
        left: &mut u32,
        number: u32,
        image: &Image,
        net: &Net,
        args: &mut BootArgs,
    ) -> Result<(), NotWritten> {
        let id = ImageId::new(number);
        while *left > 0 {
            let slot = Slot::new(self.written.slots);
            let record = self.records.get_mut(slot.index()).ok_or(NotWritten::SlotsTaken)?;
            let ipv4 = net.address_of(slot);
            compose(args, &image.args, net, ipv4, &[]).map_err(NotWritten::TooLong)?;
            let args = lay(self.cells, &mut self.written.cells, args).ok_or(NotWritten::CellsTaken)?;
            *record = Record::written(id, image.share(), ipv4, args);
            self.written.slots += 1;
            *left -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "vms_test.rs"]
mod tests;
