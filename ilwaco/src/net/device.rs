//! The virtual NIC as the stack's device. Frames are read in the ring where they lie, and written into it where they leave.

use super::{checksum, frame};
use crate::platform::{kick, nic};
use abi::guest::device;
use abi::nic::{MAX_FRAME, NicCounters, NicPage, RX_RING, RX_SLOTS, TX_RING, tx_slots_offset};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use core::mem::offset_of;
use ring::{PacketConsumer, PacketProducer, ReserveError, RingError, SharedMemory};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use zerocopy::FromBytes;

/// Both rings of the NIC.
pub(super) struct NicDevice {
    rx: PacketConsumer<SharedMemory>,
    tx: PacketProducer<SharedMemory>,
    sent: Sent,
}

/// What was sent since somebody asked.
#[derive(Default)]
struct Sent {
    /// A frame is in the ring that is not yet published.
    staged: bool,
    /// Somebody was asked for its address.
    solicited: bool,
}

/// The MAC address of this VM and the counters of its NIC.
pub(super) fn nic_page() -> NicPage {
    let mut bytes = [0; size_of::<NicPage>()];
    // The page is there wherever there is a NIC.
    let _ = nic().read(0, &mut bytes);
    NicPage::read_from_bytes(&bytes).unwrap_or_else(|_| unreachable!("the buffer has the page's size"))
}

/// Counters of this VM's NIC.
pub fn nic_counters() -> NicCounters {
    if crate::registers::has_nic() { nic_page().counters } else { NicCounters::default() }
}

/// True while the physical link is up.
pub fn link_up() -> bool {
    crate::registers::has_nic() && nic().read32(offset_of!(NicPage, link_up)).is_some_and(|up| up != 0)
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
        (tx.max_len() >= MAX_FRAME).then_some(NicDevice { rx, tx, sent: Sent::default() })
    }

    /// The next received frame, in the ring. The same one until it is taken or skipped.
    pub(super) fn peek(&mut self) -> Option<&[u8]> {
        view(&mut self.rx)
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
    pub(super) fn can_send(&mut self) -> bool {
        // After a reset the ring is empty.
        !matches!(self.tx.reserve(MAX_FRAME), Err(ReserveError::Full | ReserveError::Corrupt | ReserveError::TooLong))
    }

    /// Shows everything that was sent to the demultiplexer, and wakes it if it sleeps.
    pub(super) fn flush(&mut self) {
        if core::mem::take(&mut self.sent.staged) {
            self.tx.publish();
            if self.tx.consumer_waits() {
                kick(device::NIC);
            }
        }
    }

    /// True when since the last call somebody was asked for its address.
    pub(super) fn take_solicited(&mut self) -> bool {
        core::mem::take(&mut self.sent.solicited)
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
fn view(rx: &mut PacketConsumer<SharedMemory>) -> Option<&[u8]> {
    let record = match rx.peek() {
        Ok(record) => record?,
        Err(RingError::EpochChanged) => return None,
        Err(RingError::Corrupt) => {
            // What the demultiplexer wrote makes no sense: start again where it says that it is.
            let _ = rx.skip_all();
            return None;
        }
    };
    let payload = rx.payload(&record)?;
    // SAFETY: the slots of a record belong to the consumer until it gives them back, which it can only do through `rx`, borrowed
    // for as long as the slice lives. The demultiplexer, the only one else who has these pages mapped, writes to slots that
    // were given back. It is part of the machine that carries this VM's packets, and is believed in this.
    unsafe { payload.view(0, record.len) }
}

/// A received frame.
pub(super) struct NicRx<'a> {
    rx: &'a mut PacketConsumer<SharedMemory>,
}

impl RxToken for NicRx<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(view(self.rx).unwrap_or(&[]));
        // A reset ring is empty, and the frame is gone either way.
        let _ = self.rx.pass();
        result
    }
}

/// Leave to send a frame.
pub(super) struct NicTx<'a> {
    tx: &'a mut PacketProducer<SharedMemory>,
    sent: &'a mut Sent,
}

impl TxToken for NicTx<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        if let Ok(reservation) = self.tx.reserve(len)
            && let Some(payload) = reservation.payload()
            // SAFETY: reserved slots are the producer's until they are published, which takes the reservation's end; the
            // demultiplexer reads published slots only, as above.
            && let Some(buffer) = unsafe { payload.view_mut(0, len) }
        {
            let result = f(buffer);
            checksum::fill(buffer);
            self.sent.solicited |= frame::is_solicitation(buffer);
            reservation.stage();
            self.sent.staged = true;
            return result;
        }
        lost(len, f)
    }
}

/// Lets the stack write a frame that goes nowhere: the ring was reset in between.
#[cold]
#[inline(never)]
fn lost<R, F: FnOnce(&mut [u8]) -> R>(len: usize, f: F) -> R {
    f(&mut alloc::vec![0; len])
}

impl Device for NicDevice {
    type RxToken<'a> = NicRx<'a>;
    type TxToken<'a> = NicTx<'a>;

    #[inline]
    fn receive(&mut self, _: Instant) -> Option<(NicRx<'_>, NicTx<'_>)> {
        // Every frame may be answered, so none is taken before an answer fits.
        if self.peek().is_none() || !self.can_send() {
            return None;
        }
        Some((NicRx { rx: &mut self.rx }, NicTx { tx: &mut self.tx, sent: &mut self.sent }))
    }

    #[inline]
    fn transmit(&mut self, _: Instant) -> Option<NicTx<'_>> {
        self.can_send().then_some(NicTx { tx: &mut self.tx, sent: &mut self.sent })
    }

    #[inline]
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        // Checked in `frame::classify`, filled in by `checksum::fill`.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}
