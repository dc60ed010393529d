//! The driver against a register-level model of virtio-net on PCI.

use super::*;
use crate::test_machine::memory;
use abi::pci::{CONFIG_BYTES, Config};
use component::virtio::status::{DRIVER_OK, FAILED, FEATURES_OK};
use component::virtio::{F_VERSION_1, reg};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// The message that the core has set up.
const MESSAGE: u16 = 0;
const PHYSICAL: u64 = 0x1_2340_0000;
const NIC_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// Offsets of the structures in region 4, as QEMU has them.
const COMMON: usize = 0x0000;
const ISR: usize = 0x1000;
const DEVICE: usize = 0x2000;
const NOTIFY: usize = 0x3000;

fn size(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

#[derive(Clone, Default)]
struct ModelQueue {
    size: u16,
    vector: u16,
    enabled: bool,
    /// Descriptors, available ring, used ring.
    places: [u64; 3],
    available: u16,
    used: u16,
}

/// What the driver can observe of the device, from the specification.
struct Model {
    memory: SharedMemory,
    offered: u64,
    accepted: u64,
    feature_select: [u32; 2],
    status: u8,
    queue_select: usize,
    queues: [ModelQueue; 2],
    msix: bool,
    config_vector: u16,
    link_up: bool,
    isr: u8,
    interrupts: usize,
    notifications: usize,
    sent: Vec<Vec<u8>>,
    /// Frames on their way out stay on the wire until somebody lets them go.
    wire_blocked: bool,
    /// Frames leave in the other direction: the last of a batch first.
    reversed: bool,
    largest_queue: u16,
    /// It does not end its reset.
    stuck: bool,
}

impl Model {
    fn word32(&self, at: usize) -> u32 {
        self.memory.read32(at).expect("inside")
    }

    fn word64(&self, at: usize) -> u64 {
        u64::from(self.word32(at)) | u64::from(self.word32(at + 4)) << 32
    }

    fn reset(&mut self) {
        self.status = 0;
        self.accepted = 0;
        self.isr = 0;
        self.config_vector = 0xffff;
        let queue = ModelQueue { size: self.largest_queue, vector: 0xffff, ..ModelQueue::default() };
        self.queues = [queue.clone(), queue];
    }

    /// Where part `part` of a queue lies in the memory.
    fn place(&self, queue: usize, part: usize) -> usize {
        size(self.queues[queue].places[part] - PHYSICAL)
    }

    /// Descriptors that the driver has made available and that were not taken: their ids.
    fn take(&mut self, queue: usize) -> Option<u16> {
        assert!(self.status & DRIVER_OK != 0 && self.queues[queue].enabled);
        let ring = self.place(queue, 1);
        let ModelQueue { size: count, available, .. } = self.queues[queue];
        let index = self.memory.read16(ring + 2).expect("inside");
        assert!(index.wrapping_sub(available) <= count, "more available than there are descriptors");
        if index == available {
            return None;
        }
        self.queues[queue].available = available.wrapping_add(1);
        self.memory.read16(ring + 4 + 2 * usize::from(available % count))
    }

    /// Address in the memory, length and flags of a descriptor.
    fn descriptor(&self, queue: usize, id: u16) -> (usize, usize, u64) {
        assert!(id < self.queues[queue].size);
        let at = self.place(queue, 0) + 16 * usize::from(id);
        let word = self.word64(at + 8);
        (size(self.word64(at) - PHYSICAL), size(word & 0xffff_ffff), word >> 32)
    }

    fn done(&mut self, queue: usize, id: u32, written: usize) {
        let ring = self.place(queue, 2);
        let ModelQueue { size: count, used, vector, .. } = self.queues[queue];
        let entry = ring + 4 + 8 * usize::from(used % count);
        self.memory.write32(entry, id).expect("inside");
        self.memory.write32(entry + 4, u32::try_from(written).expect("small")).expect("inside");
        self.queues[queue].used = used.wrapping_add(1);
        self.memory.write16(ring + 2, used.wrapping_add(1)).expect("inside");
        let flags = self.memory.read16(self.place(queue, 1)).expect("inside");
        if flags & 1 == 0 {
            self.interrupt(1, vector);
        }
    }

    fn interrupt(&mut self, cause: u8, vector: u16) {
        self.isr |= cause;
        if !self.msix || vector == MESSAGE {
            self.interrupts += 1;
        }
    }

    fn transmit(&mut self) {
        if self.wire_blocked || self.status & DRIVER_OK == 0 {
            return;
        }
        let mut ids = vec![];
        while let Some(id) = self.take(1) {
            let (at, len, flags) = self.descriptor(1, id);
            assert_eq!(flags, 0, "the device reads it, and it is the only one of its frame");
            let mut bytes = vec![0; len];
            self.memory.read(at, &mut bytes).expect("inside");
            assert_eq!(bytes[..HEADER], [0; HEADER]);
            self.sent.push(bytes.split_off(HEADER));
            ids.push(id);
        }
        if self.reversed {
            ids.reverse();
        }
        ids.into_iter().for_each(|id| self.done(1, id.into(), 0));
    }

    /// A frame arrives. False when there was no buffer.
    fn arrive(&mut self, frame: &[u8]) -> bool {
        if self.status & DRIVER_OK == 0 {
            return false;
        }
        let Some(id) = self.take(0) else { return false };
        let (at, len, flags) = self.descriptor(0, id);
        assert_eq!(flags, 2, "the device writes it");
        assert!(len >= 1526, "section 5.1.6.3.1");
        let mut header = [0; HEADER];
        header[10] = 1;
        self.memory.write(at, &header).expect("inside");
        let cut = frame.len().min(len - HEADER);
        self.memory.write(at + HEADER, &frame[..cut]).expect("inside");
        self.done(0, id.into(), HEADER + frame.len());
        true
    }

    fn read(&mut self, at: usize) -> u64 {
        let queue = self.queues.get(self.queue_select);
        match at {
            reg::DEVICE_FEATURE => self.offered >> (32 * self.feature_select[0]) & 0xffff_ffff,
            reg::DEVICE_STATUS if self.stuck => 0xff,
            reg::DEVICE_STATUS => self.status.into(),
            reg::QUEUE_SIZE => queue.map_or(0, |queue| queue.size).into(),
            reg::QUEUE_MSIX_VECTOR => queue.map_or(0xffff, |queue| queue.vector).into(),
            reg::QUEUE_NOTIFY_OFF => u64::try_from(self.queue_select).expect("small"),
            // Reading takes the line down.
            ISR => core::mem::take(&mut self.isr).into(),
            DEVICE.. if at < DEVICE + 6 => NIC_MAC[at - DEVICE].into(),
            _ if at == DEVICE + CONFIG_STATUS => self.link_up.into(),
            _ => panic!("nobody needs to read {at:#x}"),
        }
    }

    fn write(&mut self, at: usize, value: u32) {
        let half = || u16::try_from(value).expect("16 bits");
        if (NOTIFY..NOTIFY + 8).contains(&at) {
            assert_eq!(at - NOTIFY, 4 * usize::from(half()));
            self.notifications += 1;
            if half() == TX {
                self.transmit();
            }
            return;
        }
        let select = self.queue_select;
        match at {
            reg::DEVICE_FEATURE_SELECT => self.feature_select[0] = value,
            reg::DRIVER_FEATURE_SELECT => self.feature_select[1] = value,
            reg::DRIVER_FEATURE => self.accepted |= u64::from(value) << (32 * self.feature_select[1]),
            reg::DEVICE_STATUS if value == 0 => self.reset(),
            reg::DEVICE_STATUS => {
                let refused = self.accepted & !self.offered != 0 || self.accepted & F_VERSION_1 == 0;
                self.status = u8::try_from(value).expect("8 bits") & !if refused { FEATURES_OK } else { 0 };
            }
            reg::CONFIG_MSIX_VECTOR => self.config_vector = half(),
            reg::QUEUE_SELECT => self.queue_select = half().into(),
            _ => {
                let queue = &mut self.queues[select];
                assert!(!queue.enabled, "a queue is not changed while it is in use");
                match at {
                    reg::QUEUE_SIZE => queue.size = half(),
                    reg::QUEUE_MSIX_VECTOR => queue.vector = half(),
                    reg::QUEUE_ENABLE => queue.enabled = half() == 1,
                    reg::QUEUE_DESC..0x38 => {
                        let (part, high) = ((at - reg::QUEUE_DESC) / 8, at % 8 == 4);
                        let old = queue.places[part];
                        let value = u64::from(value);
                        queue.places[part] =
                            if high { old & 0xffff_ffff | value << 32 } else { old >> 32 << 32 | value };
                    }
                    _ => panic!("nobody needs to write {at:#x}"),
                }
            }
        }
    }
}

#[derive(Clone)]
struct Handle(Rc<RefCell<Model>>, usize);

impl Registers for Handle {
    fn read8(&self, offset: usize) -> u8 {
        u8::try_from(self.0.borrow_mut().read(self.1 + offset)).expect("8 bits")
    }

    fn read16(&self, offset: usize) -> u16 {
        u16::try_from(self.0.borrow_mut().read(self.1 + offset)).expect("16 bits")
    }

    fn read32(&self, offset: usize) -> u32 {
        u32::try_from(self.0.borrow_mut().read(self.1 + offset)).expect("32 bits")
    }

    fn write8(&mut self, offset: usize, value: u8) {
        self.0.borrow_mut().write(self.1 + offset, value.into());
    }

    fn write16(&mut self, offset: usize, value: u16) {
        self.0.borrow_mut().write(self.1 + offset, value.into());
    }

    fn write32(&mut self, offset: usize, value: u32) {
        self.0.borrow_mut().write(self.1 + offset, value);
    }

    fn part(&self, offset: usize, bytes: usize) -> Option<Self> {
        (offset + bytes <= 0x4000).then(|| Handle(self.0.clone(), self.1 + offset))
    }
}

fn model(bytes: usize) -> Handle {
    let mut model = Model {
        memory: memory(bytes),
        // Offloads and mergeable buffers as well: the driver must leave them alone.
        offered: F_MAC | F_STATUS | F_VERSION_1 | 0x1_0000_8003,
        accepted: 0,
        feature_select: [0; 2],
        status: 0,
        queue_select: 0,
        queues: Default::default(),
        msix: false,
        config_vector: 0xffff,
        link_up: true,
        isr: 0,
        interrupts: 0,
        notifications: 0,
        sent: vec![],
        wire_blocked: false,
        reversed: false,
        largest_queue: 256,
        stuck: false,
    };
    model.reset();
    Handle(Rc::new(RefCell::new(model)), 0)
}

/// The configuration space of QEMU's transitional device: MSI-X, then common, ISR, device, notifications, and access
/// through the configuration space.
fn config(msix: bool) -> Config {
    let mut config = Config([0; CONFIG_BYTES]);
    let mut put = |at: usize, bytes: &[u8]| config.0[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x06, &[0x10]);
    put(0x34, &[0x98]);
    put(0x98, &[0x11, 0x84, 2, if msix { 0x80 } else { 0 }, 1, 0, 0, 0, 1, 8]);
    put(0x84, &[9, 0x70, 20, 5, 0, 0, 0, 0]);
    put(0x70, &[9, 0x60, 20, 2, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0]);
    put(0x60, &[9, 0x50, 16, 4, 4, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x10, 0, 0]);
    put(0x50, &[9, 0x40, 16, 3, 4, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 0]);
    put(0x40, &[9, 0, 16, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    config
}

fn structures(handle: &Handle, config: &Config) -> Result<Structures<Handle>, StartError> {
    Structures::find(config, |bar| (bar == 4).then(|| handle.clone())).ok_or(StartError::NotModern)
}

fn try_start(handle: &Handle) -> Result<VirtioNet<Handle>, StartError> {
    let (memory, msix) = (handle.0.borrow().memory, handle.0.borrow().msix);
    VirtioNet::start(structures(handle, &config(msix))?, memory, PHYSICAL, |_| {})
}

fn start(handle: &Handle) -> VirtioNet<Handle> {
    try_start(handle).unwrap_or_else(|error| panic!("{error}"))
}

fn take(nic: &mut VirtioNet<Handle>) -> Option<Vec<u8>> {
    let received = nic.received()?;
    assert!(received.offset.is_multiple_of(8));
    let mut frame = vec![0; received.len];
    nic.memory.read(received.offset, &mut frame).expect("inside");
    nic.release();
    Some(frame)
}

fn put(nic: &mut VirtioNet<Handle>, frame: &[u8]) -> bool {
    let Some(offset) = nic.buffer() else { return false };
    assert!(offset.is_multiple_of(8) && nic.buffer() == Some(offset));
    nic.memory.write(offset, frame).expect("inside");
    nic.send(frame.len());
    true
}

fn frame(number: usize) -> Vec<u8> {
    let byte = u8::try_from(number % 251).expect("small");
    vec![byte; MIN_FRAME + number % (MAX_FRAME - MIN_FRAME + 1)]
}

#[test]
fn starts_with_what_the_memory_allows() {
    for ((rx, tx), bytes) in SIZES.into_iter().map(|size| (size, dma_bytes(size))) {
        let handle = model(bytes);
        let nic = start(&handle);
        assert_eq!(nic.descriptors(), (rx, tx));
        assert_eq!((nic.mac(), nic.link_up()), (Mac::new(NIC_MAC), true));
        assert_eq!(handle.0.borrow().accepted, F_MAC | F_STATUS | F_VERSION_1);
    }
    assert_eq!(try_start(&model(DMA_BYTES_MIN - 16)).err(), Some(StartError::Memory));
}

#[test]
fn starts_with_what_the_device_allows() {
    for (most, expected) in
        [(128, Ok((128, 64))), (64, Ok((64, 32))), (16, Err(StartError::Device(virtio::StartError::Queue(RX))))]
    {
        let handle = model(DMA_BYTES);
        handle.0.borrow_mut().largest_queue = most;
        assert_eq!(try_start(&handle).map(|nic| nic.descriptors()), expected);
    }
}

#[test]
fn devices_that_do_not_agree_are_told() {
    let old = model(DMA_BYTES);
    old.0.borrow_mut().offered = F_MAC;
    assert_eq!(try_start(&old).err(), Some(StartError::Device(virtio::StartError::Features(F_MAC))));
    assert_eq!(old.0.borrow().status, FAILED);
    let stuck = model(DMA_BYTES);
    stuck.0.borrow_mut().stuck = true;
    assert_eq!(try_start(&stuck).err(), Some(StartError::Device(virtio::StartError::Reset)));
}

#[test]
fn structures_are_all_there_or_none_is_used() {
    let handle = model(DMA_BYTES);
    let found = structures(&handle, &config(true)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!([found.common.1, found.isr.1, found.device.1, found.notify.1], [COMMON, ISR, DEVICE, NOTIFY]);
    assert!(found.msix && found.multiplier == 4);
    for broken in [0x40, 0x50, 0x60, 0x70] {
        // Of no known kind; in a region that is not mapped; beyond the region; too short.
        for (at, byte) in [(3, 7), (4, 2), (10, 1), (13, 0)] {
            let mut config = config(false);
            config.0[broken + at] = byte;
            assert!(matches!(structures(&handle, &config), Err(StartError::NotModern)), "{broken:#x} {at}");
        }
    }
}

#[test]
fn every_frame_arrives_once_and_in_order_over_many_rounds() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    // Indices wrap after 65,536.
    for number in 0..70_000 {
        assert!(handle.0.borrow_mut().arrive(&frame(number)));
        assert_eq!(take(&mut nic), Some(frame(number)));
        assert_eq!(take(&mut nic), None);
        nic.flush();
    }
    assert_eq!(nic.faults(), Faults::default());
}

#[test]
fn a_full_receive_ring_takes_no_more_and_recovers() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let arrived = (0..100).take_while(|&number| handle.0.borrow_mut().arrive(&frame(number))).count();
    assert_eq!(arrived, usize::from(nic.descriptors().0));
    for number in 0..arrived {
        assert_eq!(take(&mut nic), Some(frame(number)));
    }
    nic.flush();
    assert!(handle.0.borrow_mut().arrive(&frame(7)));
    assert_eq!(take(&mut nic), Some(frame(7)));
}

#[test]
fn a_long_batch_gives_buffers_back_on_the_way() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    for number in 0..500 {
        assert!(handle.0.borrow_mut().arrive(&frame(number)), "{number}");
        assert_eq!(take(&mut nic), Some(frame(number)));
    }
}

#[test]
fn bad_frames_are_dropped_and_counted() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    for bytes in [MIN_FRAME - 1, MAX_FRAME + 1, 0, 100_000] {
        assert!(handle.0.borrow_mut().arrive(&vec![1; bytes]));
    }
    assert!(handle.0.borrow_mut().arrive(&frame(3)));
    assert_eq!(take(&mut nic), Some(frame(3)));
    assert_eq!(nic.faults().bad, 4);
}

#[test]
fn a_lying_device_neither_hangs_the_driver_nor_leads_it_out_of_its_memory() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let (memory, used) = (handle.0.borrow().memory, handle.0.borrow().place(0, 2));
    let buffers = dma_bytes(SIZES[3]);
    // An index far ahead, ids beyond the queue, lengths beyond the buffer.
    memory.write16(used + 2, 0x7fff).expect("inside");
    for entry in 0..32 {
        let len = if entry % 2 == 0 { 12 + 60 } else { u32::MAX };
        memory.write32(used + 4 + 8 * entry, 0xffff_ff00).expect("inside");
        memory.write32(used + 8 + 8 * entry, len).expect("inside");
    }
    let mut frames = 0;
    for _ in 0..100_000 {
        let Some(received) = nic.received() else { continue };
        assert!(received.len == 60 && received.offset + received.len <= buffers);
        frames += 1;
        nic.release();
    }
    assert!(frames > 0);
}

#[test]
fn frames_leave_in_order_with_one_notification_a_batch() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let before = handle.0.borrow().notifications;
    for number in 0..10 {
        assert!(put(&mut nic, &frame(number)));
    }
    assert!(handle.0.borrow().sent.is_empty());
    nic.flush();
    nic.flush();
    assert_eq!(handle.0.borrow().notifications - before, 1);
    for number in 10..300 {
        assert!(put(&mut nic, &frame(number)));
        nic.flush();
    }
    assert_eq!(handle.0.borrow().sent, (0..300).map(frame).collect::<Vec<_>>());
    // Nobody asked to be told.
    assert_eq!(handle.0.borrow().interrupts, 0);
}

#[test]
fn a_device_that_looks_by_itself_is_not_notified() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let (before, used) = (handle.0.borrow().notifications, handle.0.borrow().place(1, 2));
    handle.0.borrow().memory.write16(used, 1).expect("inside");
    assert!(put(&mut nic, &frame(1)));
    nic.flush();
    assert_eq!(handle.0.borrow().notifications, before);
    handle.0.borrow_mut().transmit();
    assert_eq!(handle.0.borrow().sent, [frame(1)]);
}

#[test]
fn a_full_transmit_ring_waits_for_the_interrupt() {
    for msix in [false, true] {
        let handle = model(DMA_BYTES_MIN);
        handle.0.borrow_mut().msix = msix;
        let mut nic = start(&handle);
        handle.0.borrow_mut().wire_blocked = true;
        let room = (0..100).take_while(|&number| put(&mut nic, &frame(number))).count();
        assert_eq!(room, usize::from(nic.descriptors().1));
        assert!(!nic.interrupt_on_space() && !nic.interrupt_on_space());
        assert_eq!(handle.0.borrow().interrupts, 0);
        handle.0.borrow_mut().wire_blocked = false;
        handle.0.borrow_mut().transmit();
        assert!(handle.0.borrow().interrupts > 0);
        nic.interrupt();
        handle.0.borrow_mut().interrupts = 0;
        (0..40).for_each(|number| assert!(put(&mut nic, &frame(room + number))));
        nic.flush();
        assert_eq!(handle.0.borrow().sent, (0..room + 40).map(frame).collect::<Vec<_>>());
        // From now on, sending interrupts nobody again.
        assert_eq!(handle.0.borrow().interrupts, 0);
    }
}

#[test]
fn space_that_came_before_the_question_is_told_at_once() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    handle.0.borrow_mut().wire_blocked = true;
    while put(&mut nic, &frame(1)) {}
    // The device is done between the look and the question, and interrupts nobody.
    handle.0.borrow_mut().wire_blocked = false;
    handle.0.borrow_mut().transmit();
    assert_eq!(handle.0.borrow().interrupts, 0);
    assert!(nic.interrupt_on_space());
    assert!(put(&mut nic, &frame(2)));
}

#[test]
fn buffers_that_come_back_in_another_order_are_not_mixed_up() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    handle.0.borrow_mut().reversed = true;
    for number in 0..500 {
        assert!(put(&mut nic, &frame(number)));
        if number % 7 == 0 {
            nic.flush();
        }
    }
    nic.flush();
    assert_eq!(handle.0.borrow().sent, (0..500).map(frame).collect::<Vec<_>>());
}

#[test]
fn link_changes_are_seen_with_either_interrupt() {
    for msix in [false, true] {
        let handle = model(DMA_BYTES_MIN);
        handle.0.borrow_mut().msix = msix;
        let mut nic = start(&handle);
        {
            let mut model = handle.0.borrow_mut();
            model.link_up = false;
            let vector = model.config_vector;
            model.interrupt(3, vector);
            assert_eq!(model.interrupts, 1);
        }
        nic.interrupt();
        assert!(!nic.link_up());
        // The line is down; messages have none.
        assert_eq!(handle.0.borrow().isr == 0, !msix);
    }
}

#[test]
fn a_successor_starts_from_whatever_state_is_left() {
    let handle = model(DMA_BYTES_MIN);
    let mut first = start(&handle);
    handle.0.borrow_mut().wire_blocked = true;
    for number in 0..9 {
        assert!(put(&mut first, &frame(number)));
        handle.0.borrow_mut().arrive(&frame(number));
    }
    first.flush();
    take(&mut first);
    first.interrupt_on_space();
    drop(first);

    let mut second = start(&handle);
    handle.0.borrow_mut().wire_blocked = false;
    assert_eq!(take(&mut second), None);
    // What the dead one had not sent is lost, not sent twice or later.
    second.flush();
    assert!(handle.0.borrow().sent.is_empty());
    assert!(put(&mut second, &frame(1)));
    second.flush();
    assert_eq!(handle.0.borrow().sent, [frame(1)]);
    assert!(handle.0.borrow_mut().arrive(&frame(2)));
    assert_eq!(take(&mut second), Some(frame(2)));
}

proptest! {
    /// Any interleaving of arrival, handling, sending and flushing keeps order and loses nothing that was accepted.
    #[test]
    fn behaves_like_two_queues(steps in proptest::collection::vec(0..7_u8, 0..400), reversed: bool) {
        let handle = model(DMA_BYTES_MIN);
        let mut nic = start(&handle);
        handle.0.borrow_mut().reversed = reversed;
        let mut arriving = VecDeque::new();
        let mut leaving = vec![];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    if handle.0.borrow_mut().arrive(&frame(number)) {
                        arriving.push_back(frame(number));
                    }
                }
                2 => prop_assert_eq!(take(&mut nic), arriving.pop_front()),
                3 => {
                    if put(&mut nic, &frame(number)) {
                        leaving.push(frame(number));
                    } else {
                        nic.interrupt_on_space();
                    }
                }
                4 => nic.flush(),
                5 => nic.interrupt(),
                _ => {
                    let mut model = handle.0.borrow_mut();
                    model.wire_blocked = !model.wire_blocked;
                    model.transmit();
                }
            }
        }
        handle.0.borrow_mut().wire_blocked = false;
        nic.flush();
        handle.0.borrow_mut().transmit();
        while let Some(expected) = arriving.pop_front() {
            prop_assert_eq!(take(&mut nic), Some(expected));
        }
        prop_assert_eq!(&handle.0.borrow().sent, &leaving);
    }
}
