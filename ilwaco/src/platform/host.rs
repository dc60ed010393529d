//! A simulated machine on the host, one for each thread: memory, a clock that only idling moves, and the other end of the NIC.
//!
//! Tests build the outside world from it. Time runs in nanoseconds, and one tick is one nanosecond.

use abi::guest::{BOOT_ARGS, CONSOLE_RING, CONSOLE_SLOTS, MAGIC, NIC_BASE, RegisterPage, pending};
use abi::nic::{DEFAULT_SLOTS, NicPage, Node, RX_RING, RX_SLOTS, TX_RING, mac_of, nic_pages, tx_slots_offset};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use abi::vm::{Slot, VmId};
use core::mem::offset_of;
use ring::{Consumer, PacketConsumer, PacketProducer, SharedMemory};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::string::String;
use std::vec::Vec;
use std::{thread_local, vec};

/// What the outside world does when the guest idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// Something happened (a frame was delivered): the guest goes on at this time.
    Wake(u64),
    /// Nothing will happen before this time; `u64::MAX` for never.
    Nothing(u64),
}

/// The TSC at the start.
const START_NS: u64 = 1_000_000;

type IdleHook = Box<dyn FnMut(u64, u64) -> SimEvent>;

thread_local! {
    static REGISTERS: Cell<Option<SharedMemory>> = const { Cell::new(None) };
    static NIC: Cell<Option<SharedMemory>> = const { Cell::new(None) };
    static NOW: Cell<u64> = const { Cell::new(START_NS) };
    static HOOK: RefCell<Option<IdleHook>> = const { RefCell::new(None) };
    static SHORT: Cell<bool> = const { Cell::new(false) };
    static KICKS: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    static CONSOLE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(vec![0u64; bytes / 8].leak())
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("small")
}

/// The outside of the simulated machine of this thread: the demultiplexer's ends of the NIC.
pub struct Sim {
    to_guest: PacketProducer<SharedMemory>,
    from_guest: PacketConsumer<SharedMemory>,
}

impl Sim {
    /// Builds a machine for this thread, with this text as boot arguments and the MAC address of VM slot 0. What Ilwaco did on
    /// the thread's last machine is forgotten.
    pub fn new(boot_args: &str) -> Sim {
        crate::task::forget_all();
        crate::net::forget_all();
        crate::time::forget_all();
        crate::control::forget_all();
        crate::disk::forget_all();
        super::host_control::forget();
        super::host_disk::forget();
        HOOK.set(None);
        NOW.set(START_NS);
        KICKS.set([0; 2]);
        SHORT.set(false);
        CONSOLE.set(String::new());
        let registers = memory(4096);
        let field = |offset: usize, value: u64| registers.write64(offset, value).expect("in the page");
        field(offset_of!(RegisterPage, magic), MAGIC);
        field(offset_of!(RegisterPage, abi_version), u64::from(abi::ABI_VERSION)); // and a sequence word of 0
        field(offset_of!(RegisterPage, vm_id), VmId::new(0, 1).raw());
        field(offset_of!(RegisterPage, memory_bytes), 16 << 20);
        field(offset_of!(RegisterPage, tsc_hz), 1_000_000_000);
        field(offset_of!(RegisterPage, ns_per_tick), 1 << 32);
        field(offset_of!(RegisterPage, clock_tsc), NOW.get());
        field(offset_of!(RegisterPage, clock_unix_ns), 1_000_000_000_000_000_000);
        field(offset_of!(RegisterPage, generation_id), 0x1234_5678_9abc_def0);
        field(offset_of!(RegisterPage, nic_page), NIC_BASE);
        let half = |offset: usize, value: u32| registers.write32(offset, value).expect("in the page");
        half(offset_of!(RegisterPage, boot_args_len), u32::try_from(boot_args.len()).expect("short"));
        half(offset_of!(RegisterPage, console_slots), CONSOLE_SLOTS);
        registers.write(at(BOOT_ARGS), boot_args.as_bytes()).expect("short");
        let nic = memory(at(nic_pages(DEFAULT_SLOTS, DEFAULT_SLOTS) * 4096));
        nic.write(offset_of!(NicPage, mac), &mac_of(Node::new(0x4_64b0), Slot::new(0))).expect("in the page");
        for slots in [offset_of!(NicPage, rx_slots), offset_of!(NicPage, tx_slots)] {
            nic.write32(slots, DEFAULT_SLOTS).expect("in the page");
        }
        nic.write32(offset_of!(NicPage, max_frame), 1514).expect("in the page");
        nic.write32(offset_of!(NicPage, link_up), 1).expect("in the page");
        REGISTERS.set(Some(registers));
        NIC.set(Some(nic));
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
        }
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
        let record = self.from_guest.peek().expect("an honest guest")?;
        let mut frame = vec![0; record.len];
        self.from_guest.read(&record, 0, &mut frame).expect("the record just seen");
        self.from_guest.advance().expect("no reset");
        if self.from_guest.producer_waits() {
            raise(pending::NIC);
        }
        Some(frame)
    }

    /// From now on `hook` is called with the present and the guest's deadline (`u64::MAX`: none) whenever the guest idles.
    pub fn on_idle(hook: impl FnMut(u64, u64) -> SimEvent + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }

    /// What the guest has printed so far.
    pub fn console() -> String {
        drain_console();
        CONSOLE.with_borrow(Clone::clone)
    }

    /// The present in nanoseconds.
    pub fn now() -> u64 {
        NOW.get()
    }

    /// Kicks of the NIC and of the console so far.
    pub fn kicks() -> [u64; 2] {
        KICKS.get()
    }

    /// Makes the guest somebody else: with these boot arguments, this MAC address, and another generation id.
    pub fn change_identity(boot_args: &str, mac: [u8; 6], generation_id: u64) {
        let page = registers();
        let sequence = page.read32(offset_of!(RegisterPage, sequence)).expect("in the page");
        page.write32(offset_of!(RegisterPage, sequence), sequence.wrapping_add(2)).expect("in the page");
        page.write64(offset_of!(RegisterPage, generation_id), generation_id).expect("in the page");
        // One tick is one nanosecond still, and a second has passed elsewhere.
        page.write64(offset_of!(RegisterPage, clock_tsc), NOW.get()).expect("in the page");
        let unix_ns = 1_000_000_001_000_000_000 + NOW.get();
        page.write64(offset_of!(RegisterPage, clock_unix_ns), unix_ns).expect("in the page");
        let len = u32::try_from(boot_args.len()).expect("short");
        page.write32(offset_of!(RegisterPage, boot_args_len), len).expect("in the page");
        page.write(at(BOOT_ARGS), boot_args.as_bytes()).expect("short");
        nic().write(offset_of!(NicPage, mac), &mac).expect("in the page");
        raise(pending::IDENTITY);
    }

    /// From now on the machine has no memory for the guest beyond what it holds, or has some again.
    pub fn run_short(short: bool) {
        SHORT.set(short);
    }

    /// Asks the guest to end itself.
    pub fn ask_shutdown() {
        raise(pending::SHUTDOWN);
    }
}

pub(super) fn raise(bits: u64) {
    registers().fetch_or64(offset_of!(RegisterPage, pending), bits).expect("in the page");
}

fn drain_console() {
    let ring =
        registers().sub(at(CONSOLE_RING), HEADER_BYTES + at(CONSOLE_SLOTS.into()) * SLOT_BYTES).expect("in the page");
    let mut consumer = Consumer::attach_contiguous(&ring, CONSOLE_SLOTS).expect("well-formed");
    while let Some(words) = consumer.take_words().expect("an honest guest") {
        let slot: abi::guest::ConsoleSlot = zerocopy::transmute!(words);
        CONSOLE.with_borrow_mut(|text| {
            text.push_str(&String::from_utf8_lossy(&slot.text[..slot.len.into()]));
            if slot.more == 0 {
                text.push('\n');
            }
        });
        consumer.release();
    }
}

pub(crate) fn registers() -> SharedMemory {
    REGISTERS.get().expect("a test that needs a machine builds one with Sim::new")
}

pub(crate) fn nic() -> SharedMemory {
    NIC.get().expect("a test that needs a machine builds one with Sim::new")
}

pub(crate) fn tsc() -> u64 {
    NOW.get()
}

pub(crate) fn idle(deadline: u64) -> u64 {
    let bits = || registers().load64(offset_of!(RegisterPage, pending)).expect("in the page");
    let enabled = registers().load64(offset_of!(RegisterPage, enabled)).expect("in the page") | pending::IDENTITY;
    while bits() & enabled == 0 && NOW.get() < deadline {
        // Taken out while it runs, since the hook may look at the machine, too.
        let mut hook = HOOK.take();
        let event = hook.as_mut().map_or(SimEvent::Nothing(u64::MAX), |hook| hook(NOW.get(), deadline));
        HOOK.set(hook);
        let next = match event {
            SimEvent::Wake(time) => time,
            SimEvent::Nothing(time) => time.min(deadline),
        };
        assert!(next != u64::MAX, "the guest sleeps for ever, and nothing will wake it");
        NOW.set(NOW.get().max(next));
    }
    bits()
}

pub(crate) fn kick(device: u64) {
    let mut kicks = KICKS.get();
    if let Some(count) = usize::try_from(device).ok().and_then(|device| kicks.get_mut(device)) {
        *count += 1;
    }
    KICKS.set(kicks);
    super::host_control::kicked(device);
    super::host_disk::kicked(device);
    if device == abi::guest::device::CONSOLE {
        drain_console();
    }
}

pub(crate) fn exit(code: u64) -> ! {
    panic!("the guest ended itself with code {code}")
}

pub(crate) fn return_memory() -> u64 {
    0
}

/// Whether the machine has memory beyond what the guest holds.
pub(crate) fn has_memory() -> bool {
    !SHORT.get()
}

pub(crate) fn secure_working_memory() -> bool {
    has_memory()
}
