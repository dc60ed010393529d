//! The VMs that are attached: their rings, their addresses, their counters.

use crate::addresses::Addresses;
use crate::directory::{Directory, Resident};
use crate::egress::Cause;
use crate::frame::{DmaFrame, Mac, Target};
use crate::holdings::{Fill, Holdings, Pace};
use crate::policy::Fifo;
use abi::charges::Traffic;
use abi::nic::{Listens, MAX_FRAME, MAX_SEGMENTS, NicCounters, NicPage, Node};
use abi::note::TableBytes;
use abi::ring::{PAGE_SLOTS, packet_slots};
use abi::vm::{Seat, Slot, VmId};
use component::{Table, Tables, VmNic};
use core::mem::offset_of;
use ring::ReserveError;
use zerocopy::IntoBytes;

/// What a batch has done to a port and [`Port::settle`] still has to show to the guest.
const RX_STAGED: u8 = 1;
const TX_TAKEN: u8 = 2;
const DROPPED: u8 = 4;

/// A frame is as much work as so many bytes of one.
pub const FRAME_WORK: u64 = 256;

/// What was done for a VM: its traffic since it was attached, and the work since that was said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub vm: VmId,
    pub traffic: Traffic,
    pub work: u64,
    /// Of that work, what the VM itself brought about.
    pub caused: u64,
}

/// One attached VM.
pub struct Port {
    /// The VM.
    pub id: VmId,
    /// Its MAC address.
    pub mac: Mac,
    /// Its rings.
    pub nic: VmNic,
    /// The truth of which the NIC page has a copy; the guest can write the copy.
    pub counters: NicCounters,
    /// Its IPv4 address; 0 while it has none.
    pub ipv4: u32,
    /// Of a record of several segments that stands first in its transmit ring, bytes of data that were cut off already.
    pub cut: u16,
    /// It gets its IPv4 address from DHCP.
    pub learns: bool,
    /// What it was warned of: bit `i` for the cause numbered `i`.
    warned: u8,
    unsettled: u8,
    /// It is on the list of those that are to be settled.
    listed: bool,
    /// What it had brought about, and what had come for it from the wire, when that was said last.
    seen: [u64; 2],
    /// What it has brought about that its counters do not show: what others got of it, and kicks for nothing.
    beside: u64,
    /// What its counters show that others have brought about: what it got of them.
    from_others: u64,
    /// It is among those that have ring pages.
    watched: bool,
    /// Its past, as senders find it, and how many frames had come when that began.
    pace: Pace,
    paced: u64,
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
    // Inlined, as the loop over frames from the wire is its caller; the others call a function that does.
    #[inline(always)]
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

    /// How full its receive ring is; `None` while it cannot be told.
    pub(crate) fn fill(&mut self) -> Option<Fill> {
        let used = self.nic.rx.in_flight().ok()?;
        Some(Fill { read: self.nic.rx.written().wrapping_sub(used), used, capacity: self.nic.rx.capacity() })
    }

    /// Its past in the pace of this number.
    #[inline]
    pub(crate) fn pace(&mut self, number: u16) -> Pace {
        if self.pace.number != number {
            let came = self.counters.rx_frames + self.counters.rx_drop_full;
            // Of one that has not been looked at for long, the average.
            let paces = u64::from(number.wrapping_sub(self.pace.number));
            let mean = came.saturating_sub(self.paced) / paces;
            self.pace = Pace { number, came: u32::try_from(mean).unwrap_or(u32::MAX) };
            self.paced = came;
        }
        self.pace
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

    /// So many frames were taken from the transmit ring in one record, with all their headers so many bytes, and went to the NIC.
    pub fn count_segments(&mut self, frames: usize, bytes: usize) {
        self.counters.tx_frames += u64::try_from(frames).unwrap_or(0);
        self.counters.tx_bytes += u64::try_from(bytes).unwrap_or(0);
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

    /// What its guest says that it wants to hear of what is sent to all: an allegation.
    pub(crate) fn listens(&self) -> Listens {
        let mut listens = Listens::default();
        // The words are within the page, or the guest has said nothing.
        let _ = self.nic.page.read(offset_of!(NicPage, listens), listens.as_mut_bytes());
        listens
    }

    /// Whether it has pages of its rings.
    pub(crate) fn has_pages(&self) -> bool {
        self.nic.rx.pages() | self.nic.tx.pages() != 0
    }

    /// Units of work that it has brought about.
    #[inline]
    fn caused(&self) -> u64 {
        let c = &self.counters;
        let frames = c.tx_frames + c.tx_drop_mac + c.tx_drop_ip + c.tx_drop_malformed + c.tx_drop_full;
        frames.wrapping_mul(FRAME_WORK).wrapping_add(c.tx_bytes).wrapping_add(self.beside)
    }

    /// Units of work that were done for it as something came from the wire.
    fn came(&self) -> u64 {
        let c = &self.counters;
        let frames = c.rx_frames + c.rx_drop_full;
        frames.wrapping_mul(FRAME_WORK).wrapping_add(c.rx_bytes).wrapping_sub(self.from_others)
    }

    /// Units of work that it has brought about and of which that was not said yet.
    #[inline]
    pub(crate) fn unsaid(&self) -> u64 {
        self.caused().wrapping_sub(self.seen[0])
    }

    /// It has brought so many units of work about that its counters do not show.
    #[inline]
    pub(crate) fn add_caused(&mut self, work: u64) {
        self.beside = self.beside.wrapping_add(work);
    }

    /// So many units of the work that its counters show were brought about by another VM.
    #[inline]
    pub(crate) fn add_from_others(&mut self, work: u64) {
        self.from_others = self.from_others.wrapping_add(work);
    }

    /// What was done for it since that was last said: `None` when nothing was.
    pub(crate) fn news(&mut self) -> Option<Used> {
        let now = [self.caused(), self.came()];
        let before = core::mem::replace(&mut self.seen, now);
        let (caused, came) = (now[0].wrapping_sub(before[0]), now[1].wrapping_sub(before[1]));
        let work = caused.wrapping_add(came);
        let c = &self.counters;
        // The machine counts modulo 2³².
        let small = |frames: u64| u32::try_from(frames & 0xffff_ffff).unwrap_or(0);
        let traffic = Traffic {
            rx_bytes: c.rx_bytes,
            tx_bytes: c.tx_bytes,
            rx_frames: small(c.rx_frames),
            tx_frames: small(c.tx_frames),
        };
        (work != 0).then_some(Used { vm: self.id, traffic, work, caused })
    }

    /// The pages of empty rings that are not needed now (bit `i`: page `i` of the NIC): all of them when it is `quiet`, as no frame has passed since
    /// the last call; else all but the one that a ring stands in.
    pub(crate) fn spare_pages(&mut self, quiet: bool) -> u32 {
        let spare = |pages: u32, here: u32| if quiet { pages } else { pages & !(1 << here) };
        // A ring that was reset is looked at again the next time.
        let rx = match self.nic.rx.in_flight() {
            Ok(0) => spare(self.nic.rx.pages(), self.nic.rx.page()),
            _ => 0,
        };
        let tx = match self.nic.tx.available() {
            // The guest may have taken others, to be sure of them, and not have needed them.
            Ok(0) if quiet => (1 << self.nic.tx.capacity().div_ceil(PAGE_SLOTS)) - 1,
            Ok(0) => spare(self.nic.tx.pages(), self.nic.tx.page()),
            _ => 0,
        };
        rx << 1 | tx << (1 + self.rx_pages())
    }

    /// Whether nothing lies in its rings. One that makes no sense is not empty.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.nic.rx.in_flight() == Ok(0) && self.nic.tx.available() == Ok(0)
    }

    /// All pages that its rings may have (bit `i`: page `i` of the NIC).
    pub(crate) fn ring_pages(&self) -> u32 {
        let tx = (1 << self.nic.tx.capacity().div_ceil(PAGE_SLOTS)) - 1;
        self.nic.rx.pages() << 1 | tx << (1 + self.rx_pages())
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

    /// Tells the guest whether the NIC cuts records of several segments.
    pub fn store_cuts(&self, nic_cuts: bool) {
        let _ = self.nic.page.write32(offset_of!(NicPage, nic_cuts), u32::from(nic_cuts));
    }

    /// What a port shows its guest at the start. All counters, as a dead demultiplexer may have left others.
    fn store_all(&self, link_up: bool) {
        let small = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
        let _ = self.nic.page.write32(offset_of!(NicPage, max_frame), small(MAX_FRAME));
        let _ = self.nic.page.write32(offset_of!(NicPage, max_segments), small(MAX_SEGMENTS));
        self.store_link(link_up);
        self.store_received();
        self.store_sent();
        self.store_drops();
    }
}

/// The attached VMs of a machine.
pub struct Ports {
    seats: Table<Option<Port>>,
    /// The seat of the VM in each slot, plus 1; 0 for a slot without one that is attached.
    slots: Table<u16>,
    addresses: Addresses,
    holdings: Holdings,
    /// Those that have ring pages, and how many they are.
    watched: Fifo,
    watched_count: u16,
    node: Node,
    /// The MAC of the node's first slot.
    first: Mac,
    /// No seat from here on is in use.
    end: u16,
}

impl Ports {
    /// What they take of the tables.
    // A few hundred.
    #[allow(clippy::cast_possible_truncation)]
    pub const TABLES: TableBytes = TableBytes {
        per_slot: size_of::<u16>() as u32,
        per_seat: size_of::<Option<Port>>() as u32 + Addresses::SEAT_BYTES + Holdings::SEAT_BYTES + Fifo::SEAT_BYTES,
        ..TableBytes::NONE
    };

    /// Nobody is attached.
    pub fn new(tables: &mut Tables) -> Self {
        Ports {
            seats: tables.per_seat(),
            slots: tables.per_slot(),
            addresses: Addresses::new(tables),
            holdings: Holdings::new(tables),
            watched: Fifo::new(tables),
            watched_count: 0,
            node: Node::default(),
            first: Mac::of(Node::default(), Slot::new(0)),
            end: 0,
        }
    }

    /// Where what VMs hold of each other's rings is kept depends on this from now on: nobody outside knows it.
    pub(crate) fn salt(&mut self, salt: u32) {
        self.holdings.salt(salt);
    }

    /// A frame of `len` bytes is on its way from one VM into the ring of another: see [`Holdings::lets_in`].
    #[inline]
    pub(crate) fn lets_in(
        &mut self,
        pair: (Seat, Seat),
        len: usize,
        ring: Fill,
        most: u32,
        pace: Pace,
        may: impl FnOnce(u32) -> u32,
    ) -> bool {
        // A frame's slots are few.
        let slots = u32::try_from(packet_slots(len)).unwrap_or(u32::MAX);
        self.holdings.lets_in(pair, slots, ring, most, pace, may)
    }

    /// The VM in `seat`.
    #[inline]
    pub fn get_mut(&mut self, seat: Seat) -> Option<&mut Port> {
        self.seats.get_mut(seat.index())?.as_mut()
    }

    /// The VM that a frame plainly goes to: it has the MAC address, and the IPv4 address, and the frame can be no answer of a DHCP server
    /// from which another address is learnt. [`crate::ingress::route`] says who gets all others.
    #[inline]
    pub fn addressed(&mut self, target: &Target) -> Option<(Seat, &mut Port)> {
        let seat = self.seat_of(target.mac.slot_behind(self.first)?)?;
        let port = self.seats.get_mut(seat.index())?.as_mut()?;
        let plainly = port.ipv4 == target.ipv4 && !(target.udp && port.learns);
        plainly.then_some((seat, port))
    }

    /// What the MACs of the machine's VMs have in common.
    pub(crate) fn set_node(&mut self, node: Node) {
        self.node = node;
        self.first = Mac::of(node, Slot::new(0));
    }

    /// The MAC of the VM in a slot.
    pub(crate) fn mac_of(&self, slot: Slot) -> Mac {
        Mac::of(self.node, slot)
    }

    /// The slot whose VM has this MAC, if it is one of the machine's.
    pub(crate) fn slot_of(&self, mac: Mac) -> Option<Slot> {
        mac.slot_behind(self.first)
    }

    /// First seat from which on none is in use.
    pub fn end(&self) -> u16 {
        self.end
    }

    /// Gives the VM in `seat` its address. False when another VM has it.
    pub fn set_address(&mut self, seat: Seat, ipv4: u32) -> bool {
        let set = self.addresses.set(seat, ipv4);
        if let Some(port) = self.get_mut(seat).filter(|_| set) {
            port.ipv4 = ipv4;
        }
        set
    }

    /// Attaches a VM, in place of whoever was in its seat. `ipv4` is 0 for a VM that asks DHCP. False when the machine
    /// has no such seat or slot.
    pub fn attach(&mut self, id: VmId, seat: Seat, node: Node, ipv4: u32, nic: VmNic, link_up: bool) -> bool {
        if let Some(other) = self.get_mut(seat).map(|port| port.id) {
            self.detach(other, seat);
        }
        let (Some(place), Some(of_slot)) = (self.seats.reach(seat.index()), self.slots.reach(id.slot.index())) else {
            return false;
        };
        let port = Port {
            id,
            mac: Mac::of(node, id.slot),
            nic,
            counters: NicCounters::default(),
            ipv4: 0,
            cut: 0,
            learns: ipv4 == 0,
            warned: 0,
            // A guest that sleeps is woken once: a dead demultiplexer may have owed it that.
            unsettled: RX_STAGED | TX_TAKEN,
            listed: false,
            seen: [0; 2],
            beside: 0,
            from_others: 0,
            watched: false,
            pace: Pace::default(),
            paced: 0,
        };
        port.store_all(link_up);
        *place = Some(port);
        *of_slot = seat.number() + 1;
        self.set_node(node);
        self.end = self.end.max(seat.number() + 1);
        self.addresses.set(seat, 0);
        true
    }

    /// Detaches the VM and returns it; `None` when it is not attached.
    pub fn detach(&mut self, id: VmId, seat: Seat) -> Option<Port> {
        let place = self.seats.get_mut(seat.index())?;
        let port = place.take_if(|port| port.id == id)?;
        if let Some(of_slot) = self.slots.get_mut(id.slot.index()).filter(|of_slot| **of_slot == seat.number() + 1) {
            *of_slot = 0;
        }
        self.addresses.set(seat, 0);
        if port.watched {
            self.watched.remove(seat);
            self.watched_count -= 1;
        }
        while let Some(last) = self.end.checked_sub(1)
            && self.seats[usize::from(last)].is_none()
        {
            self.end = last;
        }
        Some(port)
    }

    /// Has the VM in `seat` looked at, behind those that have ring pages already.
    pub(crate) fn watch(&mut self, seat: Seat) {
        if let Some(port) = self.get_mut(seat)
            && !core::mem::replace(&mut port.watched, true)
        {
            self.watched.push(seat);
            self.watched_count += 1;
        }
    }

    /// Takes the next one of those that have ring pages out.
    pub(crate) fn next_watched(&mut self) -> Option<Seat> {
        let seat = self.watched.pop()?;
        self.watched_count -= 1;
        if let Some(port) = self.get_mut(seat) {
            port.watched = false;
        }
        Some(seat)
    }

    /// How many VMs have ring pages.
    pub(crate) fn watched(&self) -> u16 {
        self.watched_count
    }

    /// Detaches everybody.
    pub fn clear(&mut self) {
        for seat in (0..self.end).rev().map(Seat::new) {
            if let Some(id) = self.get_mut(seat).map(|port| port.id) {
                self.detach(id, seat);
            }
        }
    }

    /// The seat of the VM in a slot, if it is attached.
    #[inline]
    fn seat_of(&self, slot: Slot) -> Option<Seat> {
        self.slots.get(slot.index())?.checked_sub(1).map(Seat::new)
    }
}

impl Directory for Ports {
    #[inline]
    fn resident(&self, mac: Mac) -> Option<Resident> {
        let seat = self.seat_of(mac.slot_behind(self.first)?)?;
        let port = self.seats.get(seat.index())?.as_ref()?;
        Some(Resident { seat, ipv4: port.ipv4, learns: port.learns })
    }

    fn solicited(&self, group: Mac) -> Option<Seat> {
        self.seat_of(group.solicited_on(self.node)?)
    }

    fn owner(&self, ipv4: u32) -> Option<Seat> {
        self.addresses.owner(ipv4)
    }
}
