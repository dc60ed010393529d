//! Demand paging without eviction: a page comes when it is touched, as the cheapest kind of page that will do.
//!
//! Reads and fetches of what the image holds share the golden frame, whatever may be written later: a frame of its own
//! costs a VM memory for as long as it lives, a second fault only time. Pages of code and constants come in clusters,
//! since neither costs a frame and most of the neighbours are touched next. Zeros come one page at a time, because
//! each costs a frame.

use super::{Oddity, Policy};
use crate::images::{Images, Segment};
use crate::vms::Vms;
use abi::pager::{Access, PagerCommand, PagerEvent};
use abi::vm::{Seat, VmId};
use component::Tables;

/// Pages of a read-only segment that one fault maps, unless another number is chosen.
pub const DEFAULT_CLUSTER: u32 = 8;

/// The policy `demand`. Faults in read-only segments map aligned clusters of up to `CLUSTER` pages, a power of two.
#[derive(Debug)]
pub struct Demand<const CLUSTER: u32 = DEFAULT_CLUSTER> {
    images: Images,
    vms: Vms,
}

impl<const CLUSTER: u32> Demand<CLUSTER> {
    #[inline]
    fn fault(&self, vm: VmId, seat: Seat, page: u32, access: Access, present: bool) -> Result<PagerCommand, Oddity> {
        let Some(known) = self.vms.get(vm, seat) else { return Err(Oddity::UnknownVm(vm)) };
        if page >= known.pages {
            return Ok(PagerCommand::Refuse { vm, page });
        }
        Ok(match (self.images.file_segment(known.image, page), access) {
            (Some(_), Access::Write) => PagerCommand::CopyImage { vm, page },
            // There, and what is there may be read and executed and, but for golden frames, written: the fault is an old
            // one, and the VM only has to try again.
            _ if present => PagerCommand::Resume { vm },
            (Some(segment), Access::Read | Access::Execute) => {
                let (page, count) =
                    if segment.writable() { (page, 1) } else { segment.cluster(page, CLUSTER, known.pages) };
                PagerCommand::MapImage { vm, page, count }
            }
            (None, _) => PagerCommand::MapZero { vm, page, count: 1 },
        })
    }
}

impl<const CLUSTER: u32> Policy for Demand<CLUSTER> {
    const NAME: &'static str = "demand";
    const SEAT_BYTES: u32 = Vms::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        const { assert!(CLUSTER.is_power_of_two(), "a cluster is a power of two of pages") };
        Demand { images: Images::new(), vms: Vms::new(tables) }
    }

    #[inline]
    fn handle(&mut self, event: PagerEvent) -> Result<Option<PagerCommand>, Oddity> {
        match event {
            PagerEvent::Fault { vm, seat, page, access, present } => {
                return self.fault(vm, seat, page, access, present).map(Some);
            }
            PagerEvent::Hello { .. } => {
                self.images.clear();
                self.vms.clear();
            }
            PagerEvent::Segment { image, first_page, pages, file_pages, writable } => {
                let segment = Segment::new(first_page, pages, file_pages, writable).ok_or(Oddity::BadSegment(image))?;
                self.images.add(image, segment)?;
            }
            PagerEvent::ImageGone { image } => self.images.forget(image),
            PagerEvent::VmStarted { vm, seat, image, pages, .. } => self.vms.start(vm, seat, image, pages)?,
            PagerEvent::VmEnded { vm, seat } => self.vms.end(vm, seat),
            // Nothing is ever taken from another VM. The one that asks for more than there is waits, and the core tells of its fault
            // again when there is more, or ends it when that takes too long.
            PagerEvent::OutOfFrames { .. } => {}
            // It chooses nobody, so nobody goes out.
            PagerEvent::Room { .. } | PagerEvent::Stays { .. } => {}
            // Nor a page.
            PagerEvent::Looked { .. } | PagerEvent::Gone { .. } | PagerEvent::Came { .. } => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "demand_tests.rs"]
mod tests;
