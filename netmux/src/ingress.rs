//! The way in: to which VMs a frame from the wire goes. Decided from its headers, before anything is copied.

use crate::dhcp;
use crate::directory::{Directory, Resident};
use crate::frame::{ARP, ARP_END, ETHERNET, Frame, Head, IPV4, IPV4_END, Mac, Target, UDP};
use abi::vm::Seat;

/// Who gets a frame from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    /// None of the VMs.
    Nobody,
    /// The VM in this seat, which is attached.
    One(Seat),
    /// The VM in this seat, which has just been given this IPv4 address by DHCP.
    Learnt(Seat, u32),
    /// Every VM that is attached.
    All,
}

/// Decides who gets `frame`.
#[inline]
pub fn route(frame: &(impl Frame + ?Sized), directory: &impl Directory) -> Receivers {
    if frame.len() < ETHERNET {
        return Receivers::Nobody;
    }
    let Target { mac, ipv4, udp } = frame.target();
    if mac.is_group() {
        return group(frame, mac, directory);
    }
    let Some(resident) = directory.resident(mac) else { return Receivers::Nobody };
    if resident.learns
        && udp
        && let Some(receivers) = learn(frame, directory, resident)
    {
        return receivers;
    }
    if is_for(ipv4, resident.ipv4) { Receivers::One(resident.seat) } else { Receivers::Nobody }
}

/// First IPv4 address that is no host's: groups, and everybody.
const GROUPS: u32 = 0xe000_0000;

/// Whether what is sent to a VM's MAC and this IPv4 address is meant for the VM that has the address `own`, 0 for one that has none yet. What is
/// sent to an address that the slot's last VM had is not: its correspondents may go on for a while.
#[inline]
fn is_for(ipv4: u32, own: u32) -> bool {
    ipv4 == own || ipv4 >= GROUPS || own == 0
}

/// A datagram to a VM whose address is not known for certain: who gets it, if it is a DHCP server's answer.
// Out of the way of the frames to all others.
#[inline(never)]
fn learn(frame: &(impl Frame + ?Sized), directory: &impl Directory, resident: Resident) -> Option<Receivers> {
    let head = frame.head();
    let is_other = head.ipv4_plain() && head.ipv4_ports() != (dhcp::SERVER_PORT, dhcp::CLIENT_PORT);
    let answer = if !is_other { dhcp::answer(frame) } else { None };
    Some(acknowledged(answer?, directory, resident))
}

/// A DHCP server's answer that reaches a VM.
fn acknowledged(answer: dhcp::Answer, directory: &impl Directory, resident: Resident) -> Receivers {
    let seat = resident.seat;
    let is_client = directory.resident(answer.client).is_some_and(|client| client.seat == seat);
    match answer.acknowledged {
        Some(ipv4) if is_client && resident.learns => Receivers::Learnt(seat, ipv4),
        _ => Receivers::One(seat),
    }
}

/// A frame to everybody or to a group. Most of them concern one VM or none, and thousands need not wake for it.
// Out of the way of the frames to one.
#[inline(never)]
fn group(frame: &(impl Frame + ?Sized), destination: Mac, directory: &impl Directory) -> Receivers {
    if destination != Mac::BROADCAST {
        if destination.is_solicited_node() {
            return directory.solicited(destination).map_or(Receivers::Nobody, Receivers::One);
        }
        let unheard =
            destination.is_bridge_local() || destination == Mac::ALL_ROUTERS || destination == Mac::MLD_REPORTS;
        return if unheard { Receivers::Nobody } else { Receivers::All };
    }
    let head = frame.head();
    match head.ethertype() {
        ARP => arp(frame.len(), &head, directory),
        IPV4 if frame.len() >= IPV4_END && head.ipv4_protocol() == UDP => match dhcp::answer(frame) {
            Some(answer) => match directory.resident(answer.client) {
                Some(resident) => acknowledged(answer, directory, resident),
                None => Receivers::Nobody,
            },
            None => Receivers::All,
        },
        _ => Receivers::All,
    }
}

/// A broadcast ARP frame: a question goes to the VM that can answer it, an announcement to everybody.
pub(crate) fn arp(len: usize, head: &Head, directory: &impl Directory) -> Receivers {
    if len < ARP_END || !head.arp_is_ipv4() {
        return Receivers::Nobody;
    }
    if head.arp_operation() == 1 && head.arp_sender_ipv4() != head.arp_target_ipv4() {
        return directory.owner(head.arp_target_ipv4()).map_or(Receivers::Nobody, Receivers::One);
    }
    Receivers::All
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_frames::{self as frames, NODE, Village, seat};
    use abi::nic::Node;
    use abi::vm::Slot;
    use proptest::prelude::*;

    const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);

    #[test]
    fn unicast_goes_to_its_vm_and_to_nobody_else() {
        let village = Village::new();
        for (slot, receivers) in [
            (1, Receivers::One(seat(1))),
            (2, Receivers::One(seat(2))),
            (3, Receivers::Nobody),
            (900, Receivers::Nobody),
        ] {
            let address = if slot == 1 { Village::IPV4 } else { 9 };
            let frame = frames::ipv4(HOST, Mac::of_slot(slot), 9, address, 6, &[0; 20]);
            assert_eq!(route(frame.as_slice(), &village), receivers);
        }
        let foreign = frames::ipv4(Mac::of_slot(1), HOST, 9, 9, 6, &[0; 20]);
        assert_eq!(route(foreign.as_slice(), &village), Receivers::Nobody);
    }

    #[test]
    fn another_nodes_vms_are_not_ours() {
        let village = Village::new();
        let other = Node::new(NODE.number() ^ 1 << 25);
        let frame = frames::ipv4(HOST, Mac::of(other, Slot::new(1)), 9, Village::IPV4, 6, &[0; 20]);
        assert_eq!(route(frame.as_slice(), &village), Receivers::Nobody);
    }

    #[test]
    fn what_was_meant_for_the_slots_last_vm_goes_to_nobody() {
        let village = Village::new();
        let to = |slot, destination| {
            let frame = frames::ipv4(HOST, Mac::of_slot(slot), 9, destination, 6, &[0; 20]);
            route(frame.as_slice(), &village)
        };
        assert_eq!(to(1, Village::IPV4), Receivers::One(seat(1)));
        assert_eq!([to(1, Village::IPV4 + 1), to(5, Village::IPV4), to(1, 0)], [Receivers::Nobody; 3]);
        // Groups and everybody; and a VM that has no address yet cannot have lost it.
        for group in [0xe000_00fb, u32::MAX] {
            assert_eq!(to(1, group), Receivers::One(seat(1)));
        }
        assert_eq!(to(2, 77), Receivers::One(seat(2)));
        // A frame too short for an address has none.
        let short = &frames::ipv4(HOST, Mac::of_slot(1), 9, 77, 6, &[])[..IPV4_END - 1];
        assert_eq!(route(short, &village), Receivers::One(seat(1)));
        // Other protocols have other addresses.
        let ipv6 = frames::ethernet(HOST, Mac::of_slot(1), crate::frame::IPV6, &[0; 46]);
        assert_eq!(route(ipv6.as_slice(), &village), Receivers::One(seat(1)));
    }

    #[test]
    fn fragments_pass_whole() {
        let village = Village::new();
        let mut frame = frames::ipv4(HOST, Mac::of_slot(1), 9, Village::IPV4, 17, &[7; 64]);
        for flags in [[0x20, 0], [0x20, 8], [0, 16]] {
            frame[20..22].copy_from_slice(&flags);
            assert_eq!(route(frame.as_slice(), &village), Receivers::One(seat(1)));
        }
    }

    #[test]
    fn arp_questions_wake_only_who_can_answer() {
        let village = Village::new();
        let ask = |target| frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), target);
        assert_eq!(route(ask(Village::IPV4).as_slice(), &village), Receivers::One(seat(1)));
        assert_eq!(route(ask(Village::IPV4 + 99).as_slice(), &village), Receivers::Nobody);
        // An announcement renews everybody's cache.
        assert_eq!(route(ask(77).as_slice(), &village), Receivers::All);
        let truncated = &ask(Village::IPV4)[..40];
        assert_eq!(route(truncated, &village), Receivers::Nobody);
    }

    #[test]
    fn groups() {
        let village = Village::new();
        let to = |mac| frames::ethernet(HOST, Mac::new(mac), crate::frame::IPV6, &[0; 46]);
        for (mac, receivers) in [
            ([0x33, 0x33, 0xff, 0x50, 0, 1], Receivers::One(seat(1))),
            ([0x33, 0x33, 0xff, 0x50, 0, 9], Receivers::Nobody),
            ([0x33, 0x33, 0xff, 0x51, 0, 1], Receivers::Nobody),
            ([0x33, 0x33, 0xff, 0x60, 0, 1], Receivers::Nobody),
            ([0x33, 0x33, 0, 0, 0, 1], Receivers::All),
            ([0x33, 0x33, 0, 0, 0, 2], Receivers::Nobody),
            ([0x01, 0, 0x5e, 0, 0, 0xfb], Receivers::All),
            ([0x01, 0x80, 0xc2, 0, 0, 0], Receivers::Nobody),
            ([0xff; 6], Receivers::All),
        ] {
            assert_eq!(route(to(mac).as_slice(), &village), receivers, "{mac:x?}");
        }
    }

    #[test]
    fn dhcp_acknowledgements_are_learnt_by_those_who_ask() {
        let village = Village::new();
        let dynamic = Mac::of_slot(2);
        for to in [dynamic, Mac::BROADCAST] {
            let ack = frames::dhcp_answer(to, dynamic, 0x0a00_0220, 5);
            assert_eq!(route(ack.as_slice(), &village), Receivers::Learnt(seat(2), 0x0a00_0220));
            let offer = frames::dhcp_answer(to, dynamic, 0x0a00_0220, 2);
            assert_eq!(route(offer.as_slice(), &village), Receivers::One(seat(2)));
        }
        // The address of VM 1 is fixed; an answer to somebody else's MAC is not for VM 2.
        let fixed = frames::dhcp_answer(Mac::BROADCAST, Mac::of_slot(1), 0x0a00_0220, 5);
        assert_eq!(route(fixed.as_slice(), &village), Receivers::One(seat(1)));
        let foreign = frames::dhcp_answer(Mac::BROADCAST, HOST, 0x0a00_0220, 5);
        assert_eq!(route(foreign.as_slice(), &village), Receivers::Nobody);
        let mismatch = frames::dhcp_answer(dynamic, HOST, 0x0a00_0220, 5);
        assert_eq!(route(mismatch.as_slice(), &village), Receivers::One(seat(2)));
    }

    #[test]
    fn truncated_frames_go_to_nobody() {
        let village = Village::new();
        for len in 0..ETHERNET {
            assert_eq!(route(&frames::ipv4(HOST, Mac::of_slot(1), 9, 9, 6, &[])[..len], &village), Receivers::Nobody);
        }
    }

    proptest! {
        #[test]
        fn only_attached_vms_receive(frame in proptest::collection::vec(any::<u8>(), 0..200), to in 0..8_usize) {
            let village = Village::new();
            let mut frame = frame;
            let addresses =
                [Mac::of_slot(1), Mac::of_slot(2), Mac::of_slot(5), Mac::BROADCAST, Mac::new([0x33, 0x33, 0xff, 0x50, 0, 1])];
            if let (Some(place), Some(mac)) = (frame.get_mut(..6), addresses.get(to)) {
                place.copy_from_slice(&mac.bytes());
            }
            match route(frame.as_slice(), &village) {
                Receivers::One(seat) | Receivers::Learnt(seat, _) => prop_assert!(matches!(seat.number(), 4 | 5 | 8)),
                Receivers::Nobody | Receivers::All => {}
            }
        }
    }
}
