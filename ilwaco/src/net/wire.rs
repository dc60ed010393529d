//! The virtual NIC as the stack's device for IP packets, of one connection or of none.

use super::checksum;
use super::device::{NicDevice, Staged, capabilities, view, write};
use super::frame::{ETHERNET_HEADER, IPV4, IPV6};
use super::link::Link;
use super::track::Track;
use abi::nic::MAX_FRAME;
use core::num::NonZeroU16;
use ring::{PacketConsumer, PacketProducer, SharedMemory};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

/// The NIC as a device for IP packets, for one connection or for none.
pub(super) struct Wire<'a> {
    nic: &'a mut NicDevice,
    link: &'a mut Link,
    /// The present in microseconds.
    now: u64,
    /// What the connection is tracked by, and where the TCP header starts in the frame that it is to take.
    track: Option<&'a mut Track>,
    start: usize,
    /// What is sent goes nowhere.
    mute: bool,
}

impl<'a> Wire<'a> {
    /// For what belongs to no connection.
    pub(super) fn plain(nic: &'a mut NicDevice, link: &'a mut Link, now: u64) -> Wire<'a> {
        Wire { nic, link, now, track: None, start: 0, mute: false }
    }

    /// For what a connection sends.
    #[inline]
    pub(super) fn of(nic: &'a mut NicDevice, link: &'a mut Link, now: u64, track: &'a mut Track) -> Wire<'a> {
        Wire { nic, link, now, track: Some(track), start: 0, mute: false }
    }

    /// The same, of which nothing leaves.
    pub(super) fn mute(self) -> Wire<'a> {
        Wire { mute: true, ..self }
    }

    /// For a connection that takes the frame that is next, in which its segment starts at `start`.
    #[inline]
    pub(super) fn taking(self, start: usize) -> Wire<'a> {
        Wire { start, ..self }
    }
}

/// A received packet.
pub(super) struct WireRx<'a> {
    rx: &'a mut PacketConsumer<SharedMemory>,
    /// What becomes of its numbers, for a connection.
    shift: Option<ShiftIn>,
}

/// How a segment is changed for a socket.
#[derive(Clone, Copy)]
struct ShiftIn {
    /// What the socket's numbers are behind those on the wire.
    shift: u32,
    /// The last number that it knows of while there is content.
    hold: Option<u32>,
    /// The most that it is told of the peer's window.
    limit: Option<u16>,
    /// Where the TCP header starts.
    start: usize,
}

impl RxToken for WireRx<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let frame = view(self.rx).unwrap_or(&mut []);
        if let Some(ShiftIn { shift, hold, limit, start }) = self.shift
            && let Some(header) = frame.get_mut(start..).and_then(|segment| segment.first_chunk_mut::<20>())
        {
            let ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
            header[8..12].copy_from_slice(&hold.unwrap_or(ack).wrapping_sub(shift).to_be_bytes());
            if let Some(limit) = limit {
                let window = u16::from_be_bytes([header[14], header[15]]);
                header[14..16].copy_from_slice(&window.min(limit).to_be_bytes());
            }
        }
        let result = f(frame.get(ETHERNET_HEADER..).unwrap_or(&[]));
        // A reset ring is empty, and the frame is gone either way.
        let _ = self.rx.pass();
        result
    }
}

/// Leave to send a packet.
pub(super) struct WireTx<'a> {
    tx: &'a mut PacketProducer<SharedMemory>,
    staged: &'a mut Staged,
    link: &'a mut Link,
    track: Option<&'a mut Track>,
    now: u64,
    mute: bool,
    /// The packet holds several segments, with so many bytes of data each; 0 for one.
    segment: u16,
}

impl TxToken for WireTx<'_> {
    #[inline]
    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map_or(0, NonZeroU16::get);
    }

    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let WireTx { tx, staged, link, track, now, mute, segment } = self;
        let len = len + ETHERNET_HEADER;
        let fill = move |buffer: &mut [u8]| {
            let (ethernet, packet) = buffer.split_at_mut(ETHERNET_HEADER);
            let result = f(packet);
            let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
            ethernet[12..14].copy_from_slice(&if is_v4 { IPV4 } else { IPV6 }.to_be_bytes());
            let mut hop = None;
            if let Some(track) = track {
                track.shift_out(packet, is_v4, now);
                hop = track.hop;
            }
            if segment == 0 {
                // Else whoever cuts it computes them, of what the frames are then.
                checksum::fill(buffer);
            }
            (result, !mute && link.address(buffer, hop, now))
        };
        write(tx, staged, len, segment, fill).unwrap_or_else(|fill| lost(len, fill))
    }
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = WireRx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = WireTx<'a>
    where
        Self: 'a;

    #[inline]
    fn receive(&mut self, _: Instant) -> Option<(WireRx<'_>, WireTx<'_>)> {
        // Only asked when there is a frame, and an answer fits.
        let NicDevice { rx, tx, staged } = &mut *self.nic;
        let track = self.track.as_deref_mut();
        let shift = track.as_ref().map(|track| ShiftIn {
            shift: track.shift,
            hold: track.hold,
            limit: track.congestion.limit(track.peer.scale),
            start: self.start,
        });
        let sends = WireTx { tx, staged, link: self.link, track, now: self.now, mute: self.mute, segment: 0 };
        Some((WireRx { rx, shift }, sends))
    }

    #[inline]
    fn transmit(&mut self, _: Instant) -> Option<WireTx<'_>> {
        // Only asked when a frame of any length fits.
        Some(WireTx {
            tx: &mut self.nic.tx,
            staged: &mut self.nic.staged,
            link: self.link,
            track: self.track.as_deref_mut(),
            now: self.now,
            mute: self.mute,
            segment: 0,
        })
    }

    #[inline]
    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(Medium::Ip, MAX_FRAME - ETHERNET_HEADER)
    }
}

/// Lets the stack write a frame that goes nowhere: the ring was reset in between.
#[cold]
#[inline(never)]
fn lost<R>(len: usize, fill: impl FnOnce(&mut [u8]) -> (R, bool)) -> R {
    fill(&mut alloc::vec![0; len]).0
}
