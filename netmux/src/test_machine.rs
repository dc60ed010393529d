//! A machine for tests: memory, a NIC without registers, guests, and a core that notes what it is told.

use crate::demux::{Called, Demux, Host, Newcomer};
use crate::doors::{self, Doors};
use crate::drivers::{Faults, Nic, Received};
use crate::frame::Mac;
use crate::leases::Leases;
use crate::policy::{Discipline, Limited, RoundRobin};
use crate::ports::{Ports, Used};
use crate::test_frames::{NODE, seat};
use abi::guest::NIC_BASE;
use abi::limits::PAGE_SIZE;
use abi::nic::{MAX_FRAME, NicCounters, NicPage, RX_RING, RX_SLOTS, TX_RING, nic_pages, tx_slots_offset};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use abi::share::Share;
use abi::vm::{Seat, VmId};
use component::{Tables, VmNic};
use core::mem::offset_of;
use ring::{PacketConsumer, PacketProducer, SharedMemory};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const _: () = assert!(NIC_BASE == 0x4000);

fn size(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

/// Memory aligned to 16 bytes. It is never freed, as any number of handles to it may be around.
pub fn memory(bytes: usize) -> SharedMemory {
    let whole = SharedMemory::from_static(vec![0; bytes.div_ceil(8) + 1].leak());
    let skip = whole.base().addr().wrapping_neg() % 16;
    whole.sub(skip, bytes).expect("one word more than needed")
}

/// Bytes of a buffer, receive buffers, and transmit buffers of the NIC.
const BUFFER: usize = 2048;
pub const RX: usize = 96;
pub const TX: usize = 8;

/// What is outside of the NIC.
pub struct Wire {
    /// On their way to the NIC.
    pub arriving: VecDeque<Vec<u8>>,
    /// Sent by the NIC.
    pub sent: Vec<Vec<u8>>,
    pub link_up: bool,
    /// Transmit buffers stay in use, until somebody sets `in_use` to 0.
    pub blocked: bool,
    pub space_interrupt: bool,
    pub in_use: usize,
    /// The NIC cuts records of several segments; and those that it was given, with the bytes of data in each frame.
    pub cuts: bool,
    pub records: Vec<(Vec<u8>, u16)>,
}

/// A NIC whose receive buffers are filled when the driver looks.
pub struct FakeNic {
    pub wire: Rc<RefCell<Wire>>,
    memory: SharedMemory,
    link_up: bool,
    filled: VecDeque<(usize, usize)>,
    rx_next: usize,
    tx_next: usize,
}

impl FakeNic {
    pub fn new() -> Self {
        let wire = Wire {
            arriving: VecDeque::new(),
            sent: vec![],
            link_up: true,
            blocked: false,
            space_interrupt: false,
            in_use: 0,
            cuts: false,
            records: vec![],
        };
        FakeNic {
            wire: Rc::new(RefCell::new(wire)),
            memory: memory((RX + TX) * BUFFER),
            link_up: true,
            filled: VecDeque::new(),
            rx_next: 0,
            tx_next: 0,
        }
    }
}

impl Nic for FakeNic {
    fn memory(&self) -> SharedMemory {
        self.memory
    }

    fn mac(&self) -> Mac {
        Mac::new([0x52, 0x54, 0, 0, 0, 1])
    }

    fn link_up(&self) -> bool {
        self.link_up
    }

    fn interrupt(&mut self) {
        self.link_up = self.wire.borrow().link_up;
    }

    fn received(&mut self) -> Option<Received> {
        while self.filled.len() < RX {
            let Some(frame) = self.wire.borrow_mut().arriving.pop_front() else { break };
            let offset = self.rx_next * BUFFER;
            self.rx_next = (self.rx_next + 1) % RX;
            self.memory.write(offset, &frame).expect("inside");
            self.filled.push_back((offset, frame.len()));
        }
        self.filled.front().map(|&(offset, len)| Received { offset, len })
    }

    fn release(&mut self) {
        self.filled.pop_front().expect("released what was received");
    }

    fn buffer(&mut self) -> Option<usize> {
        let mut wire = self.wire.borrow_mut();
        if !wire.blocked {
            wire.in_use = 0;
        }
        (wire.in_use < TX - 1).then(|| (RX + self.tx_next) * BUFFER)
    }

    fn send(&mut self, len: usize) {
        let offset = (RX + self.tx_next) * BUFFER;
        let mut frame = vec![0; len];
        self.memory.read(offset, &mut frame).expect("inside");
        let mut wire = self.wire.borrow_mut();
        assert!(wire.in_use < TX - 1, "sent without a buffer");
        wire.in_use += 1;
        wire.sent.push(frame);
        self.tx_next = (self.tx_next + 1) % TX;
    }

    fn cuts(&self) -> bool {
        self.wire.borrow().cuts
    }

    fn buffer_of(&mut self, len: usize) -> Option<usize> {
        let count = len.div_ceil(BUFFER);
        let room = self.tx_next + count <= TX && self.wire.borrow().in_use + count < TX;
        room.then(|| (RX + self.tx_next) * BUFFER)
    }

    fn send_segments(&mut self, len: usize, headers: usize, segment: u16) {
        assert!(headers < len && headers + usize::from(segment) <= MAX_FRAME);
        let offset = (RX + self.tx_next) * BUFFER;
        let mut record = vec![0; len];
        self.memory.read(offset, &mut record).expect("inside");
        let mut wire = self.wire.borrow_mut();
        wire.in_use += len.div_ceil(BUFFER);
        assert!(wire.in_use < TX, "sent without room");
        wire.records.push((record, segment));
        self.tx_next = (self.tx_next + len.div_ceil(BUFFER)) % TX;
    }

    fn flush(&mut self) {}

    fn interrupt_on_space(&mut self) -> bool {
        self.wire.borrow_mut().space_interrupt = true;
        false
    }

    fn faults(&self) -> Faults {
        Faults::default()
    }
}

/// What the core does about ring pages.
#[derive(Default)]
pub struct FakeCore {
    /// Pages of each VM's NIC in the window: bit `i` for page `i`.
    pub given: BTreeMap<VmId, u32>,
    /// Pages that are left to be given; `None` for as many as anybody wants.
    pub left: Option<usize>,
    /// VMs that do not idle.
    pub busy: Vec<VmId>,
    /// Pages that were returned last.
    pub returned: u32,
    /// VMs that were called in, and what is answered.
    pub called: Vec<VmId>,
    pub calls: Called,
}

impl FakeCore {
    fn ring_page(&mut self, vm: VmId, page: u32) -> bool {
        assert!((1..16).contains(&page), "page {page} of {vm}");
        let given = self.given.entry(vm).or_default();
        assert!(*given >> page & 1 == 0, "page {page} of {vm} again");
        match &mut self.left {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        *given |= 1 << page;
        true
    }

    fn return_pages(&mut self, vm: VmId, pages: u32) -> bool {
        let given = self.given.entry(vm).or_default();
        // Some the guest may have taken by itself.
        assert!(pages & 1 == 0 && pages >> 16 == 0, "{vm} has no such pages");
        if self.busy.contains(&vm) {
            return false;
        }
        self.returned = pages;
        self.left.iter_mut().for_each(|left| *left += (pages & *given).count_ones() as usize);
        *given &= !pages;
        true
    }
}

/// A core that notes whom it was asked to wake, and whose clock ticks at every look.
#[derive(Default)]
pub struct FakeHost {
    pub raised: Rc<RefCell<Vec<VmId>>>,
    pub clock: Rc<Cell<u64>>,
    pub core: Rc<RefCell<FakeCore>>,
    /// What was said to have been done for whom, and of how much.
    pub used: Vec<(Used, u64)>,
}

impl Host for FakeHost {
    fn used(&mut self, used: Used, of: u64) {
        self.used.push((used, of));
    }

    fn call(&mut self, vm: VmId) -> Called {
        let mut core = self.core.borrow_mut();
        core.called.push(vm);
        core.calls
    }

    fn raise(&mut self, vm: VmId) {
        self.raised.borrow_mut().push(vm);
    }

    fn now(&mut self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    fn ring_page(&mut self, vm: VmId, page: u32) -> bool {
        self.core.borrow_mut().ring_page(vm, page)
    }

    fn return_pages(&mut self, vm: VmId, pages: u32) -> bool {
        self.core.borrow_mut().return_pages(vm, pages)
    }
}

/// A VM: its memory and its own ends of the rings.
pub struct Guest {
    pub id: VmId,
    pub window: SharedMemory,
    pub rx: PacketConsumer<SharedMemory>,
    pub tx: PacketProducer<SharedMemory>,
    slots: (u32, u32),
}

impl Guest {
    pub fn new(index: u16, rx_slots: u32, tx_slots: u32) -> Self {
        let window = memory(size(nic_pages(rx_slots, tx_slots) * PAGE_SIZE));
        let [rx, rx_slots_at, tx, tx_slots_at] = Self::parts(&window, rx_slots, tx_slots);
        Guest {
            id: VmId::new(index.into(), 1),
            window,
            rx: PacketConsumer::attach(&rx, &rx_slots_at, rx_slots).expect("good"),
            tx: PacketProducer::attach(&tx, &tx_slots_at, tx_slots).expect("good"),
            slots: (rx_slots, tx_slots),
        }
    }

    /// Its slot.
    pub fn slot(&self) -> u16 {
        u16::try_from(self.id.slot.number()).expect("small")
    }

    /// Its place in the tables.
    pub fn seat(&self) -> Seat {
        seat(self.slot())
    }

    /// As it is attached.
    pub fn newcomer(&self, ipv4: u32, share: Share) -> Newcomer {
        Newcomer { id: self.id, seat: self.seat(), node: NODE, ipv4, share, of: None }
    }

    /// Receive header, receive slots, transmit header, transmit slots.
    fn parts(window: &SharedMemory, rx_slots: u32, tx_slots: u32) -> [SharedMemory; 4] {
        let slots = |count: u32| usize::try_from(count).expect("small") * SLOT_BYTES;
        [
            (size(RX_RING), HEADER_BYTES),
            (size(RX_SLOTS), slots(rx_slots)),
            (size(TX_RING), HEADER_BYTES),
            (size(tx_slots_offset(rx_slots)), slots(tx_slots)),
        ]
        .map(|(offset, len)| window.sub(offset, len).expect("inside"))
    }

    /// The NIC as the core shows it to the demultiplexer.
    pub fn nic(&self) -> VmNic {
        let (rx_slots, tx_slots) = self.slots;
        let [rx, rx_slots_at, tx, tx_slots_at] = Self::parts(&self.window, rx_slots, tx_slots);
        VmNic {
            page: self.window.sub(0, size(PAGE_SIZE)).expect("inside"),
            rx: PacketProducer::attach_sparse(&rx, &rx_slots_at, rx_slots).expect("good"),
            tx: PacketConsumer::attach_sparse(&tx, &tx_slots_at, tx_slots).expect("good"),
        }
    }

    /// What the core does to the rings when the demultiplexer has died.
    pub fn reset_rings(&self) {
        for header in [RX_RING, TX_RING] {
            ring::reset(&self.window.sub(size(header), HEADER_BYTES).expect("inside")).expect("good");
        }
    }

    /// Takes all frames out of the receive ring.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut frames = vec![];
        while let Ok(Some(record)) = self.rx.peek() {
            let mut frame = vec![0; record.len];
            self.rx.read(&record, 0, &mut frame).expect("the last record");
            frames.push(frame);
            self.rx.advance().expect("no reset");
        }
        frames
    }

    /// Puts a frame into the transmit ring. True when the demultiplexer wants a kick.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.tx.push(frame).expect("space");
        self.tx.consumer_waits()
    }

    /// Puts a record of several segments into the transmit ring. True when the demultiplexer wants a kick.
    pub fn send_segments(&mut self, record: &[u8], segment: u16) -> bool {
        let mut reserved = self.tx.reserve(record.len()).expect("space");
        reserved.write(0, record).expect("as long as that");
        reserved.cut(segment);
        reserved.commit();
        self.tx.consumer_waits()
    }

    /// A word of the NIC page.
    pub fn word(&self, offset: usize) -> u64 {
        self.window.read64(offset).expect("inside")
    }

    /// The counters that the guest sees.
    pub fn counters(&self) -> NicCounters {
        let mut bytes = [0; size_of::<NicCounters>()];
        self.window.read(offset_of!(NicPage, counters), &mut bytes).expect("inside");
        zerocopy::transmute!(bytes)
    }
}

/// Slots, and seats, of the machine.
pub const SLOTS: usize = 16;
/// Bytes for its leases.
pub const LEASE_BYTES: usize = 2 * (component::KEEP_HEADER_BYTES + SLOTS * 16);

/// Tables for a machine of this size, whose demultiplexer has the discipline `D`.
pub fn tables<D: Discipline>(places: usize) -> Tables {
    Tables::on_heap(crate::tables::<D>(), places, places)
}

/// The demultiplexer with its surroundings.
pub struct Machine<D: Discipline = RoundRobin> {
    pub demux: Demux<FakeNic, FakeHost, D>,
    pub wire: Rc<RefCell<Wire>>,
    pub raised: Rc<RefCell<Vec<VmId>>>,
    pub clock: Rc<Cell<u64>>,
    pub core: Rc<RefCell<FakeCore>>,
}

impl Machine {
    /// One whose clock has `ticks_per_second`; it ticks once at every look.
    pub fn new(ticks_per_second: u64) -> Self {
        Machine::after(memory(LEASE_BYTES), ticks_per_second)
    }

    /// A machine with guests in these slots; guest `i` has the address 10.0.2.`i`.
    pub fn with_guests(slots: &[u16]) -> (Self, Vec<Guest>) {
        let mut machine = Machine::new(1_000_000);
        let guests = slots
            .iter()
            .map(|&slot| {
                let guest = Guest::new(slot, 256, 256);
                assert!(machine.demux.attach(guest.newcomer(address(slot), Share::DEFAULT), guest.nic()));
                guest
            })
            .collect();
        machine.demux.turn();
        (machine, guests)
    }
}

impl<D: Discipline> Machine<D> {
    /// One whose predecessor has left its leases in `leases`.
    pub fn after(leases: SharedMemory, ticks_per_second: u64) -> Self {
        let (nic, host) = (FakeNic::new(), FakeHost::default());
        let (wire, raised, clock) = (nic.wire.clone(), host.raised.clone(), host.clock.clone());
        let core = host.core.clone();
        let mut tables = tables::<D>(SLOTS);
        let (ports, discipline) = (Ports::new(&mut tables), Limited::<D>::new(&mut tables));
        let leases = Leases::new(leases, &mut tables);
        let doors = Doors::new(&mut tables, Some(memory(doors::BYTES)), ticks_per_second);
        let demux = Demux::new(nic, host, ports, discipline, leases, doors, ticks_per_second);
        Machine { demux, wire, raised, clock, core }
    }

    pub fn arrive(&self, frame: &[u8]) {
        self.wire.borrow_mut().arriving.push_back(frame.to_vec());
    }

    pub fn sent(&self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.wire.borrow_mut().sent)
    }

    pub fn raised(&self) -> Vec<VmId> {
        core::mem::take(&mut self.raised.borrow_mut())
    }

    /// Turns until nothing is left; fails when that takes too long.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            if self.demux.turn() == crate::demux::Pace::Idle {
                return;
            }
        }
        panic!("never idle");
    }
}

/// 10.0.2.`slot`
pub fn address(slot: u16) -> u32 {
    0x0a00_0200 + u32::from(slot)
}
