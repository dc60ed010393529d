//! Messages between the core and the network demultiplexer.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::message::{BadMessage, Message, low16, low32};
use crate::nic::Node;
use crate::share::Share;
use crate::vm::{Seat, VmId};

/// Core to demultiplexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// First message after every start of the demultiplexer: everything it knew is void.
    Hello,
    /// The NIC pages of `vm` are mapped in the window, in the place of its `seat`. `ipv4` is the address that it may use (network
    /// order in the low 32 bits, so 10.0.2.16 is 0x0a000210), or 0 when it asks DHCP. `share` is what it may send. `node` is the same for all
    /// VMs, and with the slot makes its MAC.
    Attach { vm: VmId, seat: Seat, node: Node, ipv4: u32, rx_slots: u32, tx_slots: u32, share: Share },
    /// The attached `vm` has another address from now on, and no other; 0: it asks DHCP for one.
    Address { vm: VmId, seat: Seat, ipv4: u32 },
    /// `vm` is out: it has neither memory nor seat, and no NIC. The demultiplexer answers for it at the address `ipv4`, which is never 0, and
    /// raises [`crate::guest::pending::NIC`] for it when a packet comes that it should see; `Attach` follows when it has come in. `node` is as in `Attach`.
    Out { vm: VmId, node: Node, ipv4: u32 },
    /// `vm`, which was out, is gone and does not come in.
    Gone { vm: VmId },
    /// `vm` is gone. Its pages stay mapped until the demultiplexer has answered `Detached`.
    Detach { vm: VmId, seat: Seat },
}

/// Demultiplexer to core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetCommand {
    /// The demultiplexer will not touch the NIC pages of `vm` any more.
    Detached { vm: VmId },
    /// It cannot serve `vm`, and does not touch its NIC pages.
    Refused { vm: VmId },
    /// It has started its NIC, if there is one, and the machine could be this node. Once in each start; the first word counts.
    Node { node: Node },
}

const HELLO: u32 = 0x301;
const ATTACH: u32 = 0x302;
const DETACH: u32 = 0x303;
const ADDRESS: u32 = 0x304;
const OUT: u32 = 0x305;
const GONE: u32 = 0x306;
const DETACHED: u32 = 0x311;
const REFUSED: u32 = 0x312;
const NODE: u32 = 0x313;

impl From<NetEvent> for Message {
    fn from(event: NetEvent) -> Message {
        match event {
            NetEvent::Hello => Message::new(HELLO, []),
            NetEvent::Attach { vm, seat, node, ipv4, rx_slots, tx_slots, share } => {
                let (weight, limits) = (share.weight.into(), share.limits());
                let place = u64::from(node.number()) << 16 | u64::from(seat.number());
                Message::new(ATTACH, [vm.raw(), ipv4.into(), rx_slots.into(), tx_slots.into(), weight, limits, place])
            }
            NetEvent::Address { vm, seat, ipv4 } => {
                Message::new(ADDRESS, [vm.raw(), seat.number().into(), ipv4.into()])
            }
            NetEvent::Out { vm, node, ipv4 } => Message::new(OUT, [vm.raw(), ipv4.into(), node.number().into()]),
            NetEvent::Gone { vm } => Message::new(GONE, [vm.raw()]),
            NetEvent::Detach { vm, seat } => Message::new(DETACH, [vm.raw(), seat.number().into()]),
        }
    }
}

impl TryFrom<&Message> for NetEvent {
    type Error = BadMessage;

    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [a, b, c, d, e, f, g] = message.words;
        Ok(match kind {
            HELLO => NetEvent::Hello,
            ATTACH => NetEvent::Attach {
                vm: VmId::from_raw(a),
                seat: Seat::new(low16(kind, g & 0xffff)?),
                node: Node::new(low32(kind, g >> 16)?),
                ipv4: low32(kind, b)?,
                rx_slots: low32(kind, c)?,
                tx_slots: low32(kind, d)?,
                share: Share::from_limits(low16(kind, e)?, f),
            },
            ADDRESS => {
                NetEvent::Address { vm: VmId::from_raw(a), seat: Seat::new(low16(kind, b)?), ipv4: low32(kind, c)? }
            }
            OUT => NetEvent::Out { vm: VmId::from_raw(a), node: Node::new(low32(kind, c)?), ipv4: low32(kind, b)? },
            GONE => NetEvent::Gone { vm: VmId::from_raw(a) },
            DETACH => NetEvent::Detach { vm: VmId::from_raw(a), seat: Seat::new(low16(kind, b)?) },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}

impl From<NetCommand> for Message {
    fn from(command: NetCommand) -> Message {
        match command {
            NetCommand::Detached { vm } => Message::new(DETACHED, [vm.raw()]),
            NetCommand::Refused { vm } => Message::new(REFUSED, [vm.raw()]),
            NetCommand::Node { node } => Message::new(NODE, [node.number().into()]),
        }
    }
}

impl TryFrom<&Message> for NetCommand {
    type Error = BadMessage;

    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        match kind {
            DETACHED => Ok(NetCommand::Detached { vm: VmId::from_raw(message.words[0]) }),
            REFUSED => Ok(NetCommand::Refused { vm: VmId::from_raw(message.words[0]) }),
            NODE => Ok(NetCommand::Node { node: Node::new(low32(kind, message.words[0])?) }),
            _ => Err(BadMessage::unknown(kind)),
        }
    }
}
