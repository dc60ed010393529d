//! The outside of the simulated machine. Tests build the outside world from it.

use super::segments::cut;
use crate::platform::host::pages::{at, nic, raise, registers};
use crate::platform::host::{self, SimEvent, console, control, disk};
use abi::control::{ControlReply, ControlRequest};
use abi::guest::{BOOT_ARGS, RegisterPage, pending};
use abi::guest_disk::DiskOrder;
use abi::message::Message;
use abi::nic::{DEFAULT_SLOTS, NicPage, RX_RING, RX_SLOTS, TX_RING, tx_slots_offset};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use core::cell::Cell;
use core::mem::offset_of;
use ring::{PacketConsumer, PacketProducer, SharedMemory};
use std::collections::VecDeque;
use std::rc::Rc;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// The outside of the simulated machine of this thread: the demultiplexer's ends of the NIC. What it has of other devices is the
/// thread's.
pub struct Sim {
    to_guest: PacketProducer<SharedMemory>,
    from_guest: PacketConsumer<SharedMemory>,
    /// Frames of the record that was taken last.
    cut: VecDeque<Vec<u8>>,
    /// Records of several segments so far.
    records: Rc<Cell<usize>>,
}

impl Sim {
    /// Builds a machine for this thread, with this text as boot arguments and the MAC address of VM slot 0. What Ilwaco did on
    /// the thread's last machine is forgotten.
    pub fn new(boot_args: &str) -> Sim {
        crate::task::forget_all();
        crate::net::forget_all();
        crate::time::forget_all();
        crate::control::forget_all();
        crate::console::forget_all();
        crate::disk::forget_all();
        host::build(boot_args);
        let nic = nic();
        let slot_bytes = at(DEFAULT_SLOTS.into()) * SLOT_BYTES;
        let part = |offset: u64, bytes| nic.sub(at(offset), bytes).expect("in the NIC");
        Sim {
            to_guest: PacketProducer::attach(&part(RX_RING, HEADER_BYTES), &part(RX_SLOTS, slot_bytes), DEFAULT_SLOTS)
                .expect("well-formed"),
            from_guest: PacketConsumer::attach(
                &part(TX_RING, HEADER_BYTES),
                &part(tx_slots_offset(DEFAULT_SLOTS), slot_bytes),
                DEFAULT_SLOTS,
            )
            .expect("well-formed"),
            cut: VecDeque::new(),
            records: Rc::default(),
        }
    }

    /// As [`super::World::takes_segments`].
    pub fn takes_segments(&mut self, most: u32, nic_cuts: bool) {
        nic().write32(offset_of!(NicPage, max_segments), most).expect("in the page");
        nic().write32(offset_of!(NicPage, nic_cuts), nic_cuts.into()).expect("in the page");
    }

    /// How many records of several segments the guest has sent.
    pub fn records(&self) -> Rc<Cell<usize>> {
        self.records.clone()
    }

    /// Delivers a frame to the guest; false when its ring is full.
    pub fn deliver(&mut self, frame: &[u8]) -> bool {
        let delivered = self.to_guest.push(frame).is_ok();
        if self.to_guest.consumer_waits() {
            raise(pending::NIC);
        }
        delivered
    }

    /// The next frame that the guest has sent.
    pub fn collect(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.cut.pop_front() {
            return Some(frame);
        }
        let record = self.from_guest.peek().expect("an honest guest")?;
        let mut frame = vec![0; record.len];
        self.from_guest.read(&record, 0, &mut frame).expect("the record just seen");
        self.from_guest.advance().expect("no reset");
        if self.from_guest.producer_waits() {
            raise(pending::NIC);
        }
        if record.segment == 0 {
            return Some(frame);
        }
        self.records.set(self.records.get() + 1);
        self.cut = cut(&frame, record.segment).into();
        self.cut.pop_front()
    }

    /// From now on `hook` is called with the present and the guest's deadline (`u64::MAX`: none) whenever the guest idles.
    pub fn on_idle(hook: impl FnMut(u64, u64) -> SimEvent + 'static) {
        host::on_idle(hook);
    }

    /// What the guest has printed so far.
    pub fn console() -> String {
        console::text()
    }

    /// The operator types this on the guest's console. What does not fit into its input ring is lost.
    pub fn type_in(text: &str) {
        console::type_in(text);
        raise(pending::CONSOLE_INPUT);
    }

    /// A console that the guest watches has said something.
    pub fn console_said() {
        raise(pending::WATCHED);
    }

    /// The present in nanoseconds.
    pub fn now() -> u64 {
        host::tsc()
    }

    /// Kicks of the NIC and of the console so far.
    pub fn kicks() -> [u64; 2] {
        host::kicks()
    }

    /// Makes the guest somebody else: with these boot arguments, this MAC address, and another generation id.
    pub fn change_identity(boot_args: &str, mac: [u8; 6], generation_id: u64) {
        let page = registers();
        let sequence = page.read32(offset_of!(RegisterPage, sequence)).expect("in the page");
        page.write32(offset_of!(RegisterPage, sequence), sequence.wrapping_add(2)).expect("in the page");
        page.write64(offset_of!(RegisterPage, generation_id), generation_id).expect("in the page");
        // One tick is one nanosecond still, and a second has passed elsewhere.
        page.write64(offset_of!(RegisterPage, clock_tsc), host::tsc()).expect("in the page");
        let unix_ns = 1_000_000_001_000_000_000 + host::tsc();
        page.write64(offset_of!(RegisterPage, clock_unix_ns), unix_ns).expect("in the page");
        let len = u32::try_from(boot_args.len()).expect("short");
        page.write32(offset_of!(RegisterPage, boot_args_len), len).expect("in the page");
        page.write(at(BOOT_ARGS), boot_args.as_bytes()).expect("short");
        nic().write(offset_of!(NicPage, mac), &mac).expect("in the page");
        raise(pending::IDENTITY);
    }

    /// The machine's Unix time is so much more, in nanoseconds, of which the guest is not told.
    pub fn adjust_clock(by_ns: u64) {
        let page = registers();
        let sequence = page.read32(offset_of!(RegisterPage, sequence)).expect("in the page");
        page.write32(offset_of!(RegisterPage, sequence), sequence.wrapping_add(2)).expect("in the page");
        let (tsc, unix_ns) = (offset_of!(RegisterPage, clock_tsc), offset_of!(RegisterPage, clock_unix_ns));
        let passed = host::tsc() - page.read64(tsc).expect("in the page");
        let now = page.read64(unix_ns).expect("in the page") + passed + by_ns;
        page.write64(unix_ns, now).expect("in the page");
        page.write64(tsc, host::tsc()).expect("in the page");
    }

    /// From now on the machine has no memory for the guest beyond what it holds, or has some again.
    pub fn run_short(short: bool) {
        host::run_short(short);
    }

    /// From now on the machine has so many bytes for the guest whenever that asks, of which nothing is used up; `usize::MAX` for no bound.
    pub fn leave(bytes: usize) {
        host::leave(bytes);
    }

    /// From now on the machine has neither memory beyond what the guest holds, nor the pages of its stack and its rings, which others got while it had nothing
    /// to do, or has both again.
    pub fn run_dry(dry: bool) {
        let at = offset_of!(RegisterPage, takings);
        let takings = registers().read32(at).expect("in the page");
        registers().write32(at, takings.wrapping_add(1)).expect("in the page");
        host::run_dry(dry);
    }

    /// Asks the guest to end itself.
    pub fn ask_shutdown() {
        raise(pending::SHUTDOWN);
    }

    /// From now on the guest controls the machine: `answer` is given each request, and the request page. A request to which it says nothing is answered late
    /// ([`Sim::answer_late`]).
    pub fn control(answer: impl FnMut(ControlRequest, &SharedMemory) -> Vec<ControlReply> + 'static) {
        control::attach(answer);
    }

    /// How often the guest has told the core that there is something in the control ring, each time by a hypercall.
    pub fn control_rings() -> u64 {
        control::rings()
    }

    /// The core answers the oldest question in the control ring that it was asked and has not answered. What the disk component is asked it does not answer by itself.
    pub fn answer_late(reply: impl Into<Message>) {
        control::answer_late(reply);
    }

    /// From now on the guest has a virtual disk that holds these bytes, filled up to a whole block. Blocks of zeros were never written.
    /// To be called before the guest's program begins.
    pub fn attach_disk(bytes: &[u8], read_only: bool) {
        disk::attach(bytes, read_only);
    }

    /// From now on requests to this block of the virtual disk end with this status ([`abi::guest_disk::status`]).
    pub fn spoil_block(block: u64, status: u16) {
        disk::spoil(block, status);
    }

    /// What is on the virtual disk.
    pub fn disk_bytes() -> Vec<u8> {
        disk::bytes()
    }

    /// From now on the machine keeps so many frames for this VM, which holds so many of them.
    pub fn hold(reserved: u32, held: u32) {
        registers().write32(offset_of!(RegisterPage, reserve_frames), reserved).expect("in the page");
        registers().write32(offset_of!(RegisterPage, held_frames), held).expect("in the page");
    }

    /// On this machine VMs that idle may go out, so they give back soon what they do not need.
    pub fn let_vms_go_out() {
        registers().write32(offset_of!(RegisterPage, may_go_out), 1).expect("in the page");
    }

    /// From now on requests to the virtual disk are taken and not answered.
    pub fn hold_disk() {
        disk::hold();
    }

    /// Answers the requests that were held back, the last one first.
    pub fn release_disk() {
        disk::release();
    }

    /// Whoever serves the virtual disk is started anew, and has forgotten what it was asked for.
    pub fn restart_disk() {
        disk::restart();
    }

    /// What the virtual disk was asked for so far, in order.
    pub fn disk_orders() -> Vec<DiskOrder> {
        disk::orders()
    }
}
