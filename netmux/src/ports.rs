//! The VMs that are attached: their rings, their addresses, their counters.

use crate::addresses::Addresses;
use crate::directory::Directory;
use crate::egress::Cause;
use crate::frame::DmaFrame;
use crate::slot_list::SlotList;
use abi::nic::{MAX_FRAME, NicCounters, NicPage};
use abi::ring::PAGE_SLOTS;
use abi::vm::VmId;
use component::VmNic;
use core::mem::offset_of;
use ring::ReserveError;

/// What a batch has done to a port and [`Port::settle`] still has to show to the guest.
const RX_STAGED: u8 = 1;
const TX_TAKEN: u8 = 2;
const DROPPED: u8 = 4;

/// One attached VM.
pub struct Port {
    /// The VM.
    pub id: VmId,
    /// Its rings.
    pub nic: VmNic,
    /// The truth of which the NIC page has a copy; the guest can write the copy.
    pub counters: NicCounters,
    /// It gets its IPv4 address from DHCP.
    learns: bool,
    /// What it was warned of: bit `i` for the cause numbered `i`.
    warned: u8,
    unsettled: u8,
    /// It is on the list of those that are to be settled.
    listed: bool,
    /// Frames either way when its ring pages were looked at last.
    seen: u64,
}

/// Why a frame did not get into a VM's receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The ring is full, or too small for any frame of this length.
    Full,
    /// The guest's index makes no sense.
    Corrupt,
    /// That page of the ring has to come first. Nothing was counted.
    NoPage(u32),
}

/// One of a port's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Receive,
    Transmit,
}

impl Port {
    /// Copies a frame into the receive ring. The guest sees it after [`Port::settle`].
    #[inline]
    pub fn deliver(&mut self, frame: &DmaFrame) -> Result<(), Undelivered> {
        let mut reserved = self.nic.rx.reserve(frame.len);
        if matches!(reserved, Err(ReserveError::EpochChanged)) {
            // The ring is empty now, and this end knows.
            drop(reserved);
            reserved = self.nic.rx.reserve(frame.len);
        }
        let result = match reserved {
            Ok(mut reservation) => match reservation.copy_from(0, &frame.memory, frame.offset, frame.len) {
                Some(()) => {
                    reservation.stage();
                    Ok(())
                }
                // The frame's buffer lies within its memory, so this does not happen.
                None => Err(Undelivered::Full),
            },
            Err(ReserveError::NoPage(page)) => return Err(Undelivered::NoPage(page)),
            Err(ReserveError::Corrupt) => Err(Undelivered::Corrupt),
            Err(_) => Err(Undelivered::Full),
        };
        if result.is_ok() {
            self.counters.rx_frames += 1;
            self.counters.rx_bytes += u64::try_from(frame.len).unwrap_or(0);
            self.unsettled |= RX_STAGED;
        } else {
            self.drop_received();
        }
        result
    }

    /// A frame for the guest is dropped.
    #[cold]
    pub fn drop_received(&mut self) {
        self.counters.rx_drop_full += 1;
        self.unsettled |= DROPPED;
    }

    /// A frame was taken from the transmit ring and went somewhere.
    #[inline]
    pub fn count_sent(&mut self, len: usize) {
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += u64::try_from(len).unwrap_or(0);
        self.unsettled |= TX_TAKEN;
    }

    /// A frame was taken from the transmit ring and found no space.
    #[cold]
    pub fn count_full(&mut self) {
        self.counters.tx_drop_full += 1;
        self.unsettled |= TX_TAKEN | DROPPED;
    }

    /// A frame was taken from the transmit ring and refused. True for the first with this cause.
    #[cold]
    pub fn count_refused(&mut self, cause: Cause) -> bool {
        let (counter, number) = match cause {
            Cause::Mac => (&mut self.counters.tx_drop_mac, 0),
            Cause::Address => (&mut self.counters.tx_drop_ip, 1),
            Cause::Role => (&mut self.counters.tx_drop_ip, 2),
            Cause::Type => (&mut self.counters.tx_drop_malformed, 3),
            Cause::Malformed => (&mut self.counters.tx_drop_malformed, 4),
        };
        *counter += 1;
        self.unsettled |= TX_TAKEN | DROPPED;
        let first = self.warned & 1 << number == 0;
        self.warned |= 1 << number;
        first
    }

    /// Pages of the receive ring.
    fn rx_pages(&self) -> u32 {
        self.nic.rx.capacity().div_ceil(PAGE_SLOTS)
    }

    /// The page of the NIC that is page `page` of the receive ring, or of the transmit ring.
    pub(crate) fn page_of(&self, ring: Ring, page: u32) -> u32 {
        match ring {
            Ring::Receive => 1 + page,
            Ring::Transmit => 1 + self.rx_pages() + page,
        }
    }

    /// Whether it has pages of its rings.
    pub(crate) fn has_pages(&self) -> bool {
        self.nic.rx.pages() | self.nic.tx.pages() != 0
    }

    /// The pages of empty rings that are not needed now (bit `i`: page `i` of the NIC): all of them when no frame has passed since
    /// the last call; else all but the one that a ring stands in.
    pub(crate) fn spare_pages(&mut self) -> u32 {
        let frames = self.counters.rx_frames.wrapping_add(self.counters.tx_frames);
        let quiet = core::mem::replace(&mut self.seen, frames) == frames;
        let spare = |pages: u32, here: u32| if quiet { pages } else { pages & !(1 << here) };
        // A ring that was reset is looked at again the next time.
        let rx = match self.nic.rx.in_flight() {
            Ok(0) => spare(self.nic.rx.pages(), self.nic.rx.page()),
            _ => 0,
        };
        let tx = match self.nic.tx.available() {
            Ok(0) => spare(self.nic.tx.pages(), self.nic.tx.page()),
            _ => 0,
        };
        rx << 1 | tx << (1 + self.rx_pages())
    }

    /// These pages of the NIC are the demultiplexer's no longer.
    pub(crate) fn take_pages(&mut self, pages: u32) {
        let rx_pages = self.rx_pages();
        let rx = pages >> 1 & ((1 << rx_pages) - 1);
        self.nic.rx.take_pages(rx);
        self.nic.tx.take_pages(pages >> (1 + rx_pages));
    }

    /// Notes that the port is on the list of those to be settled. True when it was not.
    #[inline]
    pub fn list(&mut self) -> bool {
        !core::mem::replace(&mut self.listed, true)
    }

    /// Shows the guest what a batch has done. True when the guest sleeps until that happens.
    #[inline]
    #[must_use]
    pub fn settle(&mut self) -> bool {
        let what = core::mem::take(&mut self.unsettled);
        self.listed = false;
        let mut sleeps = false;
        if what & RX_STAGED != 0 {
            self.store_received();
            self.nic.rx.publish();
            sleeps |= self.nic.rx.consumer_waits();
        }
        if what & TX_TAKEN != 0 {
            self.store_sent();
            self.nic.tx.release();
            sleeps |= self.nic.tx.producer_waits();
        }
        if what & DROPPED != 0 {
            self.store_drops();
        }
        sleeps
    }

    #[inline]
    fn store_received(&self) {
        self.store(offset_of!(NicCounters, rx_frames), self.counters.rx_frames);
        self.store(offset_of!(NicCounters, rx_bytes), self.counters.rx_bytes);
    }

    #[inline]
    fn store_sent(&self) {
        self.store(offset_of!(NicCounters, tx_frames), self.counters.tx_frames);
        self.store(offset_of!(NicCounters, tx_bytes), self.counters.tx_bytes);
    }

    #[cold]
    fn store_drops(&self) {
        let c = &self.counters;
        self.store(offset_of!(NicCounters, rx_drop_full), c.rx_drop_full);
        self.store(offset_of!(NicCounters, tx_drop_mac), c.tx_drop_mac);
        self.store(offset_of!(NicCounters, tx_drop_ip), c.tx_drop_ip);
        self.store(offset_of!(NicCounters, tx_drop_malformed), c.tx_drop_malformed);
        self.store(offset_of!(NicCounters, tx_drop_full), c.tx_drop_full);
    }

    /// Writes a counter; the offset is within the page whatever the window is, or nothing happens.
    #[inline]
    fn store(&self, offset: usize, value: u64) {
        let _ = self.nic.page.write64(offset_of!(NicPage, counters) + offset, value);
    }

    /// Tells the guest whether the link is up.
    pub fn store_link(&self, up: bool) {
        let _ = self.nic.page.write32(offset_of!(NicPage, link_up), u32::from(up));
    }

    /// What a port shows its guest at the start. All counters, as a dead demultiplexer may have left others.
    fn store_all(&self, link_up: bool) {
        let longest = u32::try_from(MAX_FRAME).unwrap_or(0);
        let _ = self.nic.page.write32(offset_of!(NicPage, max_frame), longest);
        self.store_link(link_up);
        self.store_received();
        self.store_sent();
        self.store_drops();
    }
}

/// A slot's place in the table. An `Option` would mark the empty place by a value that is not zero somewhere in the port,
/// and a table of them would lie in the image file instead of `.bss`.
// Unlike a box, the table needs no heap; most of it is never touched.
#[allow(clippy::large_enum_variant)]
#[repr(u8)]
enum Place {
    Empty = 0,
    Taken(Port) = 1,
}

/// Where the tables have a VM; `None` for a slot that no table of ours has.
#[inline]
pub(crate) fn place_of(vm: VmId) -> Option<u16> {
    u16::try_from(vm.slot.number()).ok()
}

/// The attached VMs of a machine with up to `N` slots; `N` is a power of two below 65,536.
pub struct Ports<const N: usize> {
    ports: [Place; N],
    addresses: Addresses<N>,
    /// Those that have ring pages, and others that had some when they went.
    pub(crate) with_pages: SlotList<N>,
    /// No slot from here on is in use.
    end: u16,
}

impl<const N: usize> Ports<N> {
    /// Nobody is attached.
    pub const fn new() -> Self {
        Ports { ports: [const { Place::Empty }; N], addresses: Addresses::new(), with_pages: SlotList::new(), end: 0 }
    }

    /// The VM in `slot`.
    #[inline]
    pub fn get_mut(&mut self, slot: u16) -> Option<&mut Port> {
        match self.ports.get_mut(usize::from(slot)) {
            Some(Place::Taken(port)) => Some(port),
            _ => None,
        }
    }

    /// First slot from which on none is in use.
    pub fn end(&self) -> u16 {
        self.end
    }

    /// The IPv4 address of the VM in `slot`; 0 while it has none.
    #[inline]
    pub fn address(&self, slot: u16) -> u32 {
        self.addresses.of(slot)
    }

    /// Gives the VM in `slot` its address. False when another VM has it.
    pub fn set_address(&mut self, slot: u16, ipv4: u32) -> bool {
        self.addresses.set(slot, ipv4)
    }

    /// Attaches a VM, in place of whoever was in its slot. `ipv4` is 0 for a VM that asks DHCP. False when the machine
    /// has no such slot.
    pub fn attach(&mut self, id: VmId, ipv4: u32, nic: VmNic, link_up: bool) -> bool {
        let Some(slot) = place_of(id) else { return false };
        let Some(place) = self.ports.get_mut(usize::from(slot)) else { return false };
        let port = Port {
            id,
            nic,
            counters: NicCounters::default(),
            learns: ipv4 == 0,
            warned: 0,
            // A guest that sleeps is woken once: a dead demultiplexer may have owed it that.
            unsettled: RX_STAGED | TX_TAKEN,
            listed: false,
            seen: 0,
        };
        port.store_all(link_up);
        *place = Place::Taken(port);
        self.end = self.end.max(slot + 1);
        self.addresses.set(slot, 0);
        true
    }

    /// Detaches the VM and returns what was counted; `None` when it is not attached.
    pub fn detach(&mut self, id: VmId) -> Option<NicCounters> {
        let slot = place_of(id)?;
        let place = self.ports.get_mut(usize::from(slot))?;
        let counters = match place {
            Place::Taken(port) if port.id == id => port.counters,
            _ => return None,
        };
        *place = Place::Empty;
        self.addresses.set(slot, 0);
        while let Some(last) = self.end.checked_sub(1)
            && matches!(self.ports[usize::from(last)], Place::Empty)
        {
            self.end = last;
        }
        Some(counters)
    }

    /// Detaches everybody.
    pub fn clear(&mut self) {
        for slot in 0..core::mem::take(&mut self.end) {
            self.ports[usize::from(slot)] = Place::Empty;
            self.addresses.set(slot, 0);
        }
    }
}

impl<const N: usize> Default for Ports<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Directory for Ports<N> {
    #[inline]
    fn attached(&self, slot: u16) -> bool {
        matches!(self.ports.get(usize::from(slot)), Some(Place::Taken(_)))
    }

    fn owner(&self, ipv4: u32) -> Option<u16> {
        self.addresses.owner(ipv4)
    }

    #[inline]
    fn learns(&self, slot: u16) -> bool {
        matches!(self.ports.get(usize::from(slot)), Some(Place::Taken(Port { learns: true, .. })))
    }
}
