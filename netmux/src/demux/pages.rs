//! The pages of the rings: they come with the first frame that needs them, and go when a ring is empty and its VM idles.

use super::{Demux, Host};
use crate::drivers::Nic;
use crate::frame::DmaFrame;
use crate::policy::Discipline;
use crate::ports::{Ring, Undelivered, Used};
use abi::charges::Traffic;
use abi::vm::{Seat, VmId};

/// A port that has ring pages is looked at that often in a second.
const LOOKS_PER_SECOND: u64 = 2;
/// Ports that are looked at in one turn at most.
const LOOKS_PER_TURN: u16 = 32;
/// Pages that a record may need at once: one of the pad before it, two of its own.
const PAGES_PER_RECORD: usize = 3;
/// When the ports are looked at that have ring pages.
pub(super) struct Looks {
    /// The next time, [`u64::MAX`] for never.
    due: u64,
    /// From one look at a port to the next, in ticks.
    period: u64,
}

impl Looks {
    pub(super) fn new(ticks_per_second: u64) -> Self {
        Looks { due: u64::MAX, period: (ticks_per_second / LOOKS_PER_SECOND).max(1) }
    }

    #[inline]
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Sets when to look again, so that each of `ports` ports is looked at once a period.
    pub(super) fn rest(&mut self, now: u64, ports: u16) {
        let turns = u64::from(ports).div_ceil(u64::from(LOOKS_PER_TURN));
        self.due = match self.period.checked_div(turns) {
            Some(pause) => now.saturating_add(pause.max(1)),
            None => u64::MAX,
        };
    }
}

impl<C: Nic, H: Host, D: Discipline> Demux<C, H, D> {
    /// When to take a turn for the sake of ring pages, of packets that are held, or of the NIC, if nothing happens before; [`u64::MAX`] for never.
    #[inline]
    pub fn due(&self) -> u64 {
        self.looks.due().min(self.doors.due()).min(self.nic.due())
    }

    /// Has the core give a port a page of a ring. False when it cannot be had.
    #[cold]
    #[inline(never)]
    pub(super) fn get_page(&mut self, seat: Seat, ring: Ring, page: u32) -> bool {
        let now = self.host.now();
        let Some(port) = self.ports.get_mut(seat) else { return false };
        if !self.host.ring_page(port.id, port.page_of(ring, page)) {
            return false;
        }
        match ring {
            Ring::Receive => port.nic.rx.give_page(page),
            Ring::Transmit => port.nic.tx.give_page(page),
        }
        self.ports.watch(seat);
        if self.looks.due == u64::MAX {
            self.looks.rest(now, self.ports.watched());
        }
        true
    }

    /// Copies a frame into a VM's ring that lacks page `page`, and perhaps others.
    #[cold]
    #[inline(never)]
    pub(super) fn deliver_to_new_pages(
        &mut self,
        seat: Seat,
        frame: &DmaFrame,
        mut page: u32,
    ) -> Result<(), Undelivered> {
        for _ in 0..PAGES_PER_RECORD {
            if !self.get_page(seat, Ring::Receive, page) {
                break;
            }
            let Some(port) = self.ports.get_mut(seat) else { break };
            match port.deliver(frame) {
                Err(Undelivered::NoPage(other)) => page = other,
                result => return result,
            }
        }
        // No frame for it: as good as no space.
        if let Some(port) = self.ports.get_mut(seat) {
            port.drop_received();
        }
        Err(Undelivered::Full)
    }

    /// Gives back what the next ports do not need.
    #[cold]
    #[inline(never)]
    pub(super) fn return_pages(&mut self, now: u64) {
        if self.own_work != 0 {
            let nobody = Used {
                vm: VmId::from_raw(0),
                traffic: Traffic::NONE,
                work: core::mem::take(&mut self.own_work),
                caused: 0,
            };
            self.say_used(nobody);
        }
        for _ in 0..self.ports.watched().min(LOOKS_PER_TURN) {
            let Some(seat) = self.ports.next_watched() else { break };
            let Some(port) = self.ports.get_mut(seat) else { continue };
            let news = port.news();
            let spare = port.spare_pages(news.is_none());
            if spare != 0 && self.host.return_pages(port.id, spare) {
                port.take_pages(spare);
            }
            if port.has_pages() {
                self.ports.watch(seat);
            }
            if let Some(used) = news {
                self.say_used(used);
            }
        }
        self.looks.rest(now, self.ports.watched());
    }
}
