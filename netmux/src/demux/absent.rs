//! Frames for VMs that are out: questions are answered for them, and what they have to see brings them in and waits for them.

use super::{Demux, Host};
use crate::doors::Held;
use crate::drivers::Nic;
use crate::frame::{DmaFrame, Frame as _, IPV4, Mac};
use crate::neighbours::{ANSWER_BYTES, Begins, Question, advertisement, arp_answer};
use crate::policy::Discipline;
use crate::refusals::{REFUSAL_BYTES, refuse};
use abi::nic::Node;
use abi::tenant::Tenant;
use abi::vm::{Seat, Slot, VmId};

/// What became of the wish that a VM comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Called {
    /// It comes, or is on its way already.
    #[default]
    Yes,
    /// There is no room for the wish now.
    Busy,
    /// There is no such VM any more.
    Gone,
}

impl<C: Nic, H: Host, D: Discipline> Demux<C, H, D> {
    /// A VM of a tenant is out, at this address. False when the machine has no such slot.
    pub fn put_out(&mut self, vm: VmId, tenant: Tenant, node: Node, ipv4: u32, ran: bool) -> bool {
        self.ports.set_node(node);
        self.doors.put(vm, tenant, ipv4, ran)
    }

    /// An attached VM of a tenant is to go out. True: it is detached, and out from now on. False, and it is attached as before: something lies in its rings or is still
    /// on its way from it, or it has no address of its own by which it could be called.
    pub fn leave(&mut self, vm: VmId, tenant: Tenant, seat: Seat) -> bool {
        // What was done for guests since the last turn is shown first.
        self.settle();
        let Some(port) = self.ports.get_mut(seat).filter(|port| port.id == vm) else { return false };
        let (ipv4, listens) = (port.ipv4, port.listens());
        let sends = self.tx_flood.is_some_and(|flood| flood.from == Some(seat));
        if ipv4 == 0 || port.learns || sends || !port.is_empty() {
            return false;
        }
        // They need not be kept while it is out. Where they cannot go now, they go along.
        let pages = port.ring_pages();
        if pages != 0 && self.host.return_pages(vm, pages) {
            port.take_pages(pages);
        }
        self.detach(vm, seat);
        let is_out = self.doors.put(vm, tenant, ipv4, true);
        self.doors.keep(vm.slot, &listens);
        is_out
    }

    /// A VM that was out is gone.
    pub fn forget_absent(&mut self, vm: VmId) {
        self.totals.absent_dropped += self.doors.remove(vm);
    }

    /// Gives a VM that is attached now what was held for it.
    pub(super) fn give_held(&mut self, vm: VmId, seat: Seat) {
        while let Some(Held { offset, len, .. }) = self.doors.take(vm) {
            if let Some((memory, _)) = self.doors.memory() {
                self.deliver(seat, &DmaFrame { memory, offset, len });
                self.totals.absent_delivered += 1;
            }
        }
        self.totals.absent_dropped += self.doors.remove(vm);
    }

    /// Drops what was held for too long.
    #[cold]
    #[inline(never)]
    pub(super) fn expire_held(&mut self, now: u64) {
        self.totals.absent_dropped += self.doors.expire(now);
    }

    /// A frame that is for none of the attached VMs, from the wire or from the VM in a seat: perhaps it is for one that is out. False when
    /// it is not.
    #[cold]
    #[inline(never)]
    pub(super) fn for_absent(&mut self, frame: &DmaFrame, from: Option<Seat>) -> bool {
        let head = frame.head();
        let to = head.destination();
        if let Some(question) = Question::of(frame, &head) {
            let owner = match question {
                Question::Ipv4(ipv4) => self.doors.owner(ipv4),
                Question::Ipv6(target) => self.absent_with(target),
            };
            let Some(slot) = owner else { return false };
            let mac = self.ports.mac_of(slot);
            if !to.is_group() && to != mac {
                return false;
            }
            let mut answer = [0; ANSWER_BYTES];
            let len = match question {
                Question::Ipv4(_) => arp_answer(&head, mac, &mut answer),
                Question::Ipv6(target) => advertisement(&head, target, mac, &mut answer),
            };
            self.totals.absent_answered += u64::from(self.answer(&answer[..len], from));
            return true;
        }
        let Some((vm, ipv4)) = self.ports.slot_of(to).and_then(|slot| self.doors.at(slot)) else { return false };
        let is_its = head.ethertype() != IPV4 || head.ipv4_destination() == ipv4;
        let begun = Begins::of(frame, &head);
        let is_wanted = match begun {
            // Where it said, if it has run.
            Begins::Datagram(port) => self.doors.takes(vm.slot, port),
            Begins::Connection(port) => self.doors.accepts(vm.slot, port),
            Begins::Echo => true,
            // The first one has called it, if anybody has.
            Begins::LaterFragment => self.doors.is_called(vm),
            Begins::Nothing => false,
            // What has run has connections, perhaps; what never has been is in none.
            Begins::Other => self.doors.has_run(vm.slot),
        };
        if is_its && is_wanted {
            self.knock(vm, frame);
            return true;
        }
        self.totals.absent_ignored += 1;
        if is_its && self.doors.has_run(vm.slot) {
            self.refuse_for(vm, frame, begun, from);
        }
        true
    }

    /// Says for a VM that is out that it does not have what a frame asks for.
    fn refuse_for(&mut self, vm: VmId, frame: &DmaFrame, begun: Begins, from: Option<Seat>) {
        let mut refusal = [0; REFUSAL_BYTES];
        let mac = self.ports.mac_of(vm.slot);
        let now = self.host.now();
        if let Some(len) = refuse(frame, &frame.head(), begun, mac, &mut refusal)
            && self.doors.may_refuse(now)
        {
            self.totals.absent_answered += u64::from(self.answer(&refusal[..len], from));
        }
    }

    /// The VM that is out and has this link-local address, which follows from its MAC.
    fn absent_with(&self, target: [u8; 16]) -> Option<Slot> {
        if target[..8] != [0xfe, 0x80, 0, 0, 0, 0, 0, 0] {
            return None;
        }
        let [a, b, c, 0xff, 0xfe, d, e, f] = *target[8..].first_chunk::<8>()? else { return None };
        let slot = self.ports.slot_of(Mac::new([a ^ 2, b, c, d, e, f]))?;
        self.doors.at(slot).map(|_| slot)
    }

    /// A VM that is out has to see a frame: call it, and hold the frame until it comes.
    fn knock(&mut self, vm: VmId, frame: &DmaFrame) {
        let now = self.host.now();
        let Some((held, has)) = self.doors.place(vm, frame.len, now) else {
            self.totals.absent_dropped += 1;
            return;
        };
        if has == 0 {
            self.totals.absent_called += 1;
            match self.host.call(vm) {
                Called::Yes => {}
                Called::Busy => {
                    self.totals.absent_dropped += 1;
                    return;
                }
                Called::Gone => {
                    self.totals.absent_dropped += 1 + self.doors.remove(vm);
                    return;
                }
            }
        }
        let copied = match self.doors.memory() {
            Some((memory, _)) => frame.memory.copy_to(frame.offset, &memory, held.offset, frame.len).is_some(),
            None => false,
        };
        if copied {
            self.doors.hold(held);
        } else {
            self.totals.absent_dropped += 1;
        }
    }

    /// Sends an answer to where the question came from. False when there is no room: who has asked asks again.
    fn answer(&mut self, bytes: &[u8], to: Option<Seat>) -> bool {
        if let Some(seat) = to {
            let Some((memory, offset)) = self.doors.memory() else { return false };
            let frame = DmaFrame { memory, offset, len: bytes.len() };
            return memory.write(offset, bytes).is_some() && self.deliver(seat, &frame);
        }
        // The next transmit buffer may be taken by a frame that is still on its way to all.
        if self.tx_flood.is_some() || !self.nic.link_up() {
            return false;
        }
        let Some(offset) = self.nic.buffer() else { return false };
        if self.nic.memory().write(offset, bytes).is_none() {
            return false;
        }
        self.put_out_on_wire(bytes.len());
        true
    }
}
