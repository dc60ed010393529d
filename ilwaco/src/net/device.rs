//! The virtual NIC. Frames are read in the ring where they lie, and written into it where they leave.

use super::checksum;
use super::frame::{ETHERNET_HEADER, IPV6_HEADER, be16};
use crate::platform::{self, kick, nic};
use crate::registers;
use abi::guest::device;
use abi::nic::{Listens, MAX_FRAME, MAX_SEGMENTS, NicCounters, NicPage, RX_RING, RX_SLOTS, TX_RING, tx_slots_offset};
use abi::ring::{HEADER_BYTES, SLOT_BYTES, packet_slots};
use core::mem::offset_of;
use ring::{PacketConsumer, PacketProducer, PeekError, RingError, SharedMemory};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use zerocopy::{FromBytes, IntoBytes};

/// Both rings of the NIC.
pub(super) struct NicDevice {
    pub(super) rx: PacketConsumer<SharedMemory>,
    pub(super) tx: PacketProducer<SharedMemory>,
    pub(super) staged: Staged,
}

/// What is known of frames that are to be sent.
#[derive(Default)]
pub(super) struct Staged {
    /// A frame is in the ring that is not yet published.
    any: bool,
    /// Bytes of a record of several segments that the demultiplexer takes at most; 0 where it takes none.
    segments: usize,
    /// Frames of any length that still fit, at least.
    room: usize,
}

/// Frames of any length that space is looked for at once: to look for each alone costs as much as to read its header.
const ROOM: usize = 4;
/// Bytes of one record that takes as many slots as all of them do: each is rounded up.
const ROOM_BYTES: usize = ROOM * (MAX_FRAME + SLOT_BYTES);
const _: () = assert!(packet_slots(ROOM_BYTES) >= ROOM * packet_slots(MAX_FRAME));

/// The MAC address of this VM and the counters of its NIC.
pub(super) fn nic_page() -> NicPage {
    let mut bytes = [0; size_of::<NicPage>()];
    // The page is there wherever there is a NIC.
    let _ = nic().read(0, &mut bytes);
    NicPage::read_from_bytes(&bytes).unwrap_or_else(|_| unreachable!("the buffer has the page's size"))
}

/// Numbers of the pages of the transmit ring.
#[cfg(target_os = "none")]
fn ring_pages() -> core::ops::Range<usize> {
    let slots = |at| nic().read32(at).unwrap_or(0);
    let (rx, tx) = (slots(offset_of!(NicPage, rx_slots)), slots(offset_of!(NicPage, tx_slots)));
    let number = |pages: u64| usize::try_from(registers::nic_page() / abi::limits::PAGE_SIZE + pages).unwrap_or(0);
    number(tx_slots_offset(rx) / abi::limits::PAGE_SIZE)..number(abi::nic::nic_pages(rx, tx))
}

/// Has the machine give memory to the transmit ring: idle VMs give it back. False when it has not as much.
#[cfg(target_os = "none")]
pub(super) fn secure_ring() -> bool {
    let pages = ring_pages();
    platform::take(pages.clone()) == pages.len()
}

/// Whether the machine has memory for the transmit ring.
#[cfg(not(target_os = "none"))]
pub(super) fn secure_ring() -> bool {
    platform::has_pages()
}

/// Says what this VM listens to.
pub(super) fn set_listens(listens: &Listens) {
    let at = offset_of!(NicPage, listens);
    // The page is there wherever there is a NIC. Who reads in between finds that nothing is said.
    let _ = nic().write32(at, 0);
    let accepts = at + offset_of!(Listens, accepts);
    let _ = nic().write32(accepts, 0);
    let _ = nic().write(at, Listens { said: 0, accepts: 0, ..*listens }.as_bytes());
    let _ = nic().write32(at, listens.said);
    let _ = nic().write32(accepts, listens.accepts);
}

/// Counters of this VM's NIC.
pub fn nic_counters() -> NicCounters {
    if registers::has_nic() { nic_page().counters } else { NicCounters::default() }
}

/// True while the physical link is up.
pub fn link_up() -> bool {
    registers::has_nic() && nic().read32(offset_of!(NicPage, link_up)).is_some_and(|up| up != 0)
}

impl NicDevice {
    /// Attaches to the rings of this VM; `None` where the NIC page makes no sense.
    pub(super) fn new() -> Option<NicDevice> {
        let page = nic_page();
        let memory = nic();
        let part = |offset: u64, bytes: usize| memory.sub(usize::try_from(offset).ok()?, bytes);
        let slot_bytes = |slots: u32| usize::try_from(slots).ok()?.checked_mul(SLOT_BYTES);
        let rx_slots = part(RX_SLOTS, slot_bytes(page.rx_slots)?)?;
        let tx_slots = part(tx_slots_offset(page.rx_slots), slot_bytes(page.tx_slots)?)?;
        let rx = PacketConsumer::attach(&part(RX_RING, HEADER_BYTES)?, &rx_slots, page.rx_slots).ok()?;
        let tx = PacketProducer::attach(&part(TX_RING, HEADER_BYTES)?, &tx_slots, page.tx_slots).ok()?;
        let segments = usize::try_from(page.max_segments).unwrap_or(0).min(MAX_SEGMENTS).min(tx.max_len());
        let staged = Staged { segments, ..Staged::default() };
        (tx.max_len() >= MAX_FRAME).then_some(NicDevice { rx, tx, staged })
    }

    /// The next received frame, in the ring. The same one until it is taken or skipped.
    pub(super) fn peek(&mut self) -> Option<&[u8]> {
        view(&mut self.rx).map(|frame| &*frame)
    }

    /// Takes everything between the IPv6 header of the next received frame and its transport's out, whose first byte is at `start` in the
    /// packet. False where there is no such frame.
    pub(super) fn flatten(&mut self, protocol: u8, start: usize) -> bool {
        let Some(packet) = view(&mut self.rx).and_then(|frame| frame.get_mut(ETHERNET_HEADER..)) else { return false };
        let Some(len) = be16(packet, 4).and_then(|len| usize::from(len).checked_sub(start.checked_sub(IPV6_HEADER)?))
        else {
            return false;
        };
        if packet.len() < start + len {
            return false;
        }
        packet.copy_within(start..start + len, IPV6_HEADER);
        packet[4..6].copy_from_slice(&u16::try_from(len).unwrap_or(0).to_be_bytes());
        packet[6] = protocol;
        true
    }

    /// Drops the next received frame.
    pub(super) fn skip(&mut self) {
        // A reset ring is empty, which is as good.
        let _ = self.rx.pass();
    }

    /// Gives the slots of all frames that were taken back.
    pub(super) fn release(&mut self) {
        self.rx.release();
    }

    /// True when a frame of any length can be sent.
    #[inline]
    pub(super) fn can_send(&mut self) -> bool {
        self.staged.room != 0 || self.look_for_room()
    }

    fn look_for_room(&mut self) -> bool {
        // Space for all of them in one piece is enough for each of them, behind one another; where there is none, there may
        // be for one. After a reset the ring is empty.
        let mut fits = |len: usize| match self.tx.has_room(len) {
            Ok(fits) => fits,
            Err(error) => error == RingError::EpochChanged,
        };
        self.staged.room = match () {
            () if fits(ROOM_BYTES) => ROOM,
            () => usize::from(fits(MAX_FRAME)),
        };
        self.staged.room != 0
    }

    /// Bytes of a frame that holds several segments, at most; 0 where there is no such thing.
    #[inline]
    pub(super) fn most_segments(&self) -> usize {
        self.staged.segments
    }

    /// True when such a frame can be sent whose program has `len` bytes or what one carries of them, headers included.
    #[inline]
    pub(super) fn has_room(&mut self, len: usize) -> bool {
        // A ring that was reset is empty, which the next frame finds out.
        self.staged.segments != 0 && self.tx.has_room(len.min(self.staged.segments)) == Ok(true)
    }

    /// True where the NIC cuts records of several segments, and computes their checksums; else whoever takes them does.
    #[inline]
    pub(super) fn nic_cuts(&self) -> bool {
        nic().read32(offset_of!(NicPage, nic_cuts)).is_some_and(|cuts| cuts != 0)
    }

    /// Shows everything that was sent to the demultiplexer, and wakes it if it sleeps.
    pub(super) fn flush(&mut self) {
        if core::mem::take(&mut self.staged.any) {
            self.tx.publish();
            if self.tx.consumer_waits() {
                kick(device::NIC);
            }
        }
    }

    /// Sends a frame that is complete. False when there is no space.
    pub(super) fn send(&mut self, frame: &[u8]) -> bool {
        let copy = |buffer: &mut [u8]| (buffer.copy_from_slice(frame), true);
        write(&mut self.tx, &mut self.staged, frame.len(), 0, copy).is_ok()
    }

    /// Lets `fill` write all of a frame of `len` bytes, for which there is space; it is sent if `fill` says so. `segment`: of several segments in
    /// one, the bytes of data in each; 0 for a frame.
    #[inline]
    pub(super) fn compose(&mut self, len: usize, segment: u16, fill: impl FnOnce(&mut [u8]) -> bool) {
        // After a reset of the ring it is lost, as it may be anywhere.
        let _ = write(&mut self.tx, &mut self.staged, len, segment, |buffer| ((), fill(buffer)));
    }

    /// Answers the next received frame with one of `len` bytes, which `answer` writes all of.
    pub(super) fn answer(&mut self, len: usize, answer: impl FnOnce(&[u8], &mut [u8])) {
        let Some(received) = view(&mut self.rx) else { return };
        // Without space it is lost, as it may be anywhere.
        let _ = write(&mut self.tx, &mut self.staged, len, 0, |buffer| (answer(received, buffer), true));
    }

    /// Asks for an interrupt at the next frame or, if `blocked`, at space to send: without that, frames cannot be taken in
    /// either. False when there is something to do already.
    pub(super) fn prepare_idle(&mut self, blocked: bool) -> bool {
        if blocked { self.tx.prepare_wait(MAX_FRAME) } else { self.rx.prepare_wait() }
    }

    /// Withdraws what [`NicDevice::prepare_idle`] asked for.
    pub(super) fn awake(&mut self) {
        self.rx.cancel_wait();
        self.tx.cancel_wait();
    }
}

/// The next frame in the ring.
pub(super) fn view(rx: &mut PacketConsumer<SharedMemory>) -> Option<&mut [u8]> {
    let record = match rx.peek() {
        Ok(record) => record?,
        Err(PeekError::EpochChanged) => return None,
        // All pages are there: they come when they are touched.
        Err(PeekError::Corrupt | PeekError::NoPage(_)) => {
            // What the demultiplexer wrote makes no sense: start again where it says that it is.
            let _ = rx.skip_all();
            return None;
        }
    };
    let payload = rx.payload(&record)?;
    // SAFETY: the slots of a record belong to the consumer until it gives them back, which it can only do through `rx`, borrowed
    // for as long as the slice lives. The demultiplexer, the only one else who has these pages mapped, writes to slots that
    // were given back, and does not read them. It is part of the machine that carries this VM's packets, and is believed in
    // this.
    unsafe { payload.view_mut(0, record.len) }
}

/// Lets `fill` write a frame of `len` bytes into the ring; it is sent if `fill` says so. `Err` where there is no space. `segment` as in
/// [`NicDevice::compose`].
#[inline]
pub(super) fn write<R, F: FnOnce(&mut [u8]) -> (R, bool)>(
    tx: &mut PacketProducer<SharedMemory>,
    staged: &mut Staged,
    len: usize,
    segment: u16,
    fill: F,
) -> Result<R, F> {
    if let Ok(mut reservation) = tx.reserve(len)
        && let Some(payload) = reservation.payload()
        // SAFETY: reserved slots are the producer's until they are published, which takes the reservation's end; the
        // demultiplexer reads published slots only, as above.
        && let Some(buffer) = unsafe { payload.view_mut(0, len) }
    {
        let (result, complete) = fill(buffer);
        if complete {
            if segment != 0 {
                reservation.cut(segment);
                // What it takes beyond a frame.
                staged.room = staged.room.saturating_sub(len / MAX_FRAME);
            }
            reservation.stage();
            staged.any = true;
            staged.room = staged.room.saturating_sub(1);
        }
        return Ok(result);
    }
    Err(fill)
}

/// What the stack is told of a device. Checksums are judged in `classify.rs`, and filled in on the way out.
#[inline]
pub(super) fn capabilities(medium: Medium, mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = medium;
    capabilities.max_transmission_unit = mtu;
    capabilities.checksum = ChecksumCapabilities::ignored();
    capabilities
}

/// The NIC as a device for whole frames, for DHCP.
pub(super) struct Frames<'a>(pub(super) &'a mut NicDevice);

/// A received frame.
pub(super) struct FramesRx<'a>(&'a mut PacketConsumer<SharedMemory>);

impl RxToken for FramesRx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        // Whoever has offered the frame passes it, too.
        f(view(self.0).unwrap_or(&mut []))
    }
}

/// Leave to send a frame.
pub(super) struct FramesTx<'a>(&'a mut PacketProducer<SharedMemory>, &'a mut Staged);

impl TxToken for FramesTx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // What the stack leaves out of a frame is nothing, and not what the slot held before. There are few of these frames.
        let mut frame = alloc::vec![0; len];
        let result = f(&mut frame);
        checksum::fill(&mut frame);
        // Without space it is lost, and asked again.
        let _ = write(self.0, self.1, len, 0, |buffer| (buffer.copy_from_slice(&frame), true));
        result
    }
}

impl Device for Frames<'_> {
    type RxToken<'a>
        = FramesRx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = FramesTx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(FramesRx<'_>, FramesTx<'_>)> {
        if self.0.peek().is_none() || !self.0.can_send() {
            return None;
        }
        let NicDevice { rx, tx, staged } = &mut *self.0;
        Some((FramesRx(rx), FramesTx(tx, staged)))
    }

    fn transmit(&mut self, _: Instant) -> Option<FramesTx<'_>> {
        self.0.can_send().then_some(FramesTx(&mut self.0.tx, &mut self.0.staged))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(Medium::Ethernet, MAX_FRAME)
    }
}
