//! The cable between the host's stack and the switch.

use super::switch::Switch;
use super::{HOST, HOST_MAC, Watcher};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::PoisonError;

/// Frames of the stack that wait for the machine at most. Beyond, the stack waits: an acknowledgement that is made later
/// acknowledges more. Bochs takes one frame in each of its milliseconds.
const OUTBOX: usize = 64;

/// The cable: what comes from the machine is looked at first, then handed to the stack one by one.
pub struct Wire {
    pub switch: Switch,
    inbox: Option<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
    watcher: Watcher,
}

impl Wire {
    pub fn new(switch: Switch, watcher: Watcher) -> Wire {
        Wire { switch, inbox: None, outbox: VecDeque::new(), watcher }
    }

    /// The next frame from the machine, however much waits for the machine: Bochs stands still while a frame of its own is not
    /// taken, and would never take what waits.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let frame = self.switch.receive()?;
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.as_ref().is_some_and(|watcher| watcher.send(frame.clone()).is_err()) {
            *watcher = None;
        }
        Some(frame)
    }

    /// Hands the stack this frame, which it takes when it is polled next.
    pub fn hand_in(&mut self, frame: Vec<u8>) {
        self.inbox = Some(frame);
    }

    /// Sends a frame to the machine, behind those that wait.
    pub fn push(&mut self, frame: Vec<u8>) {
        self.outbox.push_back(frame);
    }

    /// True when the stack may send another frame.
    pub fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX
    }

    /// Sends what waits. False when the machine does not take everything now.
    pub fn flush(&mut self) -> bool {
        while let Some(frame) = self.outbox.front() {
            if !self.switch.send(frame) {
                return false;
            }
            self.outbox.pop_front();
        }
        true
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Outbox<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Outbox<'_>)> {
        let frame = self.inbox.take()?;
        Some((Received(frame), Outbox(&mut self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbox<'_>> {
        self.has_room().then_some(Outbox(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = abi::nic::MAX_FRAME;
        capabilities
    }
}

/// A frame from the machine.
pub struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame to the machine.
pub struct Outbox<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Outbox<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

/// An Ethernet frame in which the host asks who has the address `guest`.
pub fn arp_request(guest: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(HOST_MAC),
        source_protocol_addr: HOST,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: guest,
    };
    let header = EthernetRepr {
        src_addr: EthernetAddress(HOST_MAC),
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; header.buffer_len() + request.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    header.emit(&mut frame);
    request.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}
