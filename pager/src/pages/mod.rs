//! Which single pages go out when memory is short, and when: what the policies by page have in common. Pure code over seats and page numbers.

mod choice;
mod queue;
mod replace;
#[cfg(test)]
mod tests;

pub use choice::Single;
pub use replace::{Clock, Fifo, Replace, Verdict, Wsclock};

use abi::pager::{PagerCommand, PagerEvent};
use abi::vm::Seat;
use component::Tables;

/// How single pages are chosen.
pub trait Choice: Sized {
    /// What the boot option calls it; `None` for nobody's single pages, where the order of VMs has the name.
    const NAME: Option<&'static str>;
    /// What its tables take of [`abi::note::TableBytes::pooled_per_seat`].
    const SEAT_BYTES: u32;

    /// Knows nobody yet. The TSC makes `hz` ticks a second.
    fn new(tables: &mut Tables, hz: u64) -> Self;
    /// Hears an event at this TSC. False for one that the order of VMs is not to hear, as pages are enough.
    fn hear(&mut self, event: &PagerEvent, now: u64) -> bool;
    /// The VM in a seat was given pages by this command.
    fn gave(&mut self, seat: Seat, command: &PagerCommand);
    /// What is to be asked of the core now. Call it until there is nothing more.
    fn next(&mut self, now: u64) -> Option<PagerCommand>;
    /// So many frames should come from a VM that goes out as a whole: no page is old enough. Once for each time that it is so.
    fn load_control(&mut self) -> Option<u64>;
    /// The TSC at which it looks again at the latest.
    fn due(&self) -> u64;
}

/// No single page goes out.
#[derive(Debug)]
pub struct Whole;

impl Choice for Whole {
    const NAME: Option<&'static str> = None;
    const SEAT_BYTES: u32 = 0;

    fn new(_: &mut Tables, _: u64) -> Self {
        Whole
    }

    #[inline]
    fn hear(&mut self, _: &PagerEvent, _: u64) -> bool {
        true
    }

    #[inline]
    fn gave(&mut self, _: Seat, _: &PagerCommand) {}

    #[inline]
    fn next(&mut self, _: u64) -> Option<PagerCommand> {
        None
    }

    #[inline]
    fn load_control(&mut self) -> Option<u64> {
        None
    }

    #[inline]
    fn due(&self) -> u64 {
        u64::MAX
    }
}
