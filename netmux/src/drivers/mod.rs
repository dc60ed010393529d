//! Drivers: what the demultiplexer asks of a NIC, and which NICs are known.

pub mod e1000;
pub mod none;
pub mod virtio;

use crate::frame::Mac;
use ring::SharedMemory;

/// A NIC with its buffers in DMA memory. Receive buffers come back in the order of arrival, one at a time; transmit
/// buffers are filled one at a time and leave in that order.
pub trait Nic {
    /// The DMA memory in which all buffers lie.
    fn memory(&self) -> SharedMemory;

    /// Its own address, zero when it has none. VMs do not use it.
    fn mac(&self) -> Mac;

    /// True while the link is up, as far as [`Nic::interrupt`] has seen.
    fn link_up(&self) -> bool;

    /// Looks why the NIC interrupted, which ends the interrupt.
    fn interrupt(&mut self);

    /// The oldest received frame that is not released; the same one until it is.
    fn received(&mut self) -> Option<Received>;

    /// Gives the buffer of the oldest received frame back.
    fn release(&mut self);

    /// Offset of a free transmit buffer of [`abi::nic::MAX_FRAME`] bytes, the same one until [`Nic::send`]. A multiple of 8.
    fn buffer(&mut self) -> Option<usize>;

    /// Sends `len` bytes of the buffer that [`Nic::buffer`] gave last.
    fn send(&mut self, len: usize);

    /// Whether it cuts records of several segments, and computes their checksums.
    #[inline]
    fn cuts(&self) -> bool {
        false
    }

    /// Offset of free space of `len` bytes, at most [`abi::nic::MAX_SEGMENTS`], for a record that the NIC is to cut, until
    /// [`Nic::send_segments`]; a multiple of 8. `None` when there is none just now. It begins where [`Nic::buffer`] is.
    fn buffer_of(&mut self, _len: usize) -> Option<usize> {
        None
    }

    /// Sends `len` bytes of the space that [`Nic::buffer_of`] gave last: headers of Ethernet, IPv4 and TCP of `headers` bytes, and data, of which
    /// each frame gets `segment` bytes ([`crate::segments::Segments::for_nic`]).
    fn send_segments(&mut self, _len: usize, _headers: usize, _segment: u16) {}

    /// Tells the NIC of everything released and sent.
    fn flush(&mut self);

    /// Asks for an interrupt when a transmit buffer is free again. For callers that [`Nic::buffer`] gave none. True when one
    /// has come free meanwhile: then there is no interrupt.
    fn interrupt_on_space(&mut self) -> bool;

    /// What the NIC and the driver dropped.
    fn faults(&self) -> Faults;

    /// When there may be a received frame that no interrupt says anything of; [`u64::MAX`] for never.
    fn due(&self) -> u64 {
        u64::MAX
    }
}

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it lies in the DMA memory; a multiple of 8.
    pub offset: usize,
    /// Bytes without the checksum, [`abi::nic::MIN_FRAME`] to [`abi::nic::MAX_FRAME`].
    pub len: usize,
}

/// Frames that never reached the demultiplexer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames that were damaged, too short or too long.
    pub bad: u64,
    /// Times that the NIC found no free receive buffer; each may have cost several frames.
    pub overruns: u64,
}

/// A NIC that a driver exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// PCI vendor.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// What it is called.
    pub name: &'static str,
}

/// All NICs that there are drivers for.
pub const KNOWN: &[Known] = &[e1000::ID, virtio::ID, virtio::TRANSITIONAL];

/// The known NIC with this vendor and device.
pub fn known(vendor: u16, device: u16) -> Option<Known> {
    KNOWN.iter().copied().find(|known| (known.vendor, known.device) == (vendor, device))
}

/// Writes the known NICs as a list for a message.
#[derive(Clone, Copy, Debug)]
pub struct KnownList;

impl core::fmt::Display for KnownList {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, known) in KNOWN.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(out, "{comma}{:04x}:{:04x} ({})", known.vendor, known.device, known.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn the_list_names_every_nic() {
        assert_eq!(
            format!("{KnownList}"),
            "8086:100e (Intel 82540EM, e1000), 1af4:1041 (virtio-net), 1af4:1000 (virtio-net, transitional)"
        );
    }
}
