//! Messages between the core and the network demultiplexer.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::charges::Traffic;
use crate::message::messages;
use crate::nic::Node;
use crate::share::Share;
use crate::tenant::Tenant;
use crate::vm::{Seat, VmId};

/// The account of a VM that is no tenant's.
pub const NO_ACCOUNT: u32 = u32::MAX;

messages! {
    /// Core to demultiplexer.
    NetEvent {
        /// First message after every start of the demultiplexer: everything it knew is void.
        0x301 Hello,
        /// The NIC pages of `vm` are mapped in the window, in the place of its `seat`. `ipv4` is the address that it may use (network
        /// order in the low 32 bits, so 10.0.2.16 is 0x0a000210), or 0 when it asks DHCP. `share` is what it may send, and `rate` what all VMs of its tenant may
        /// send together, bytes in a second, 0 for any number: the tenant with this `account`, below [`crate::limits::LIVE_TENANTS`], or [`NO_ACCOUNT`]. `node` is the same for all
        /// VMs, and with the slot makes its MAC.
        0x302 Attach {
            vm: VmId,
            ipv4: u32,
            rx_slots: u32 | tx_slots: u32,
            share: Share,
            node: Node | seat: Seat,
            account: u32 | rate: u32,
        },
        /// All VMs of the tenant with this account may send so many bytes in a second from now on, 0 for any number.
        0x308 Rate { account: u32, rate: u32 },
        /// The attached `vm` has another address from now on, and no other; 0: it asks DHCP for one.
        0x304 Address { vm: VmId, seat: Seat, ipv4: u32 },
        /// `vm` is out: it has neither memory nor seat, and no NIC. The demultiplexer answers for it at the address `ipv4`, which is never 0, and
        /// raises [`crate::guest::pending::NIC`] for it when a packet comes that it should see; `Attach` follows when it has come in. `node` is as in `Attach`.
        /// One that `ran` may have connections, so every packet for it is one that it should see; the others have none. Packets for VMs of one `tenant`
        /// leave room for those of others.
        0x305 Out { vm: VmId, ipv4: u32, node: Node, ran: bool, tenant: Tenant },
        /// `vm`, which was out, is gone and does not come in.
        0x306 Gone { vm: VmId },
        /// `vm` is gone, whether it is attached or was to leave. Its pages stay mapped until the demultiplexer has answered `Detached`.
        0x303 Detach { vm: VmId, seat: Seat },
        /// `vm`, which is attached, is to go out. Where nothing lies in its rings and nothing of what it has sent is still to be sent, the demultiplexer
        /// answers `Detached`, and the VM is out for it from then on, as after `Out` with `ran`: `Attach` or `Gone` follow. Else it answers `Stays`,
        /// and goes on. `tenant` is as in `Out`.
        0x307 Leave { vm: VmId, seat: Seat, tenant: Tenant },
    }
}

messages! {
    /// Demultiplexer to core.
    NetCommand {
        /// The demultiplexer will not touch the NIC pages of `vm` any more.
        0x311 Detached { vm: VmId },
        /// It cannot serve `vm`, and does not touch its NIC pages.
        0x312 Refused { vm: VmId },
        /// It has started its NIC, if there is one, and the machine could be this node. Once in each start; the first word counts.
        0x313 Node { node: Node },
        /// `vm` cannot leave: something lies in its rings. It is attached as before.
        0x314 Stays { vm: VmId },
        /// What the attached `vm` got and sent since it was attached; and of the `of` units of work that the demultiplexer did since it said so of anybody
        /// last, what was done for `vm`: `caused` of these by what it did itself, the others by what came for it from the wire. A VM that is not its own
        /// stands for work
        /// that was done for nobody.
        0x315 Used { vm: VmId, traffic: Traffic, of: u32, caused: u32 | work: u32 },
    }
}
