//! The driver against a register-level model of the 82540EM.

use super::*;
use crate::test_machine::memory;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const PHYSICAL: u64 = 0x1_2340_0000;
const NIC_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// What the driver can observe of the NIC, from the manual and from what Bochs emulates.
struct Model {
    registers: BTreeMap<usize, u32>,
    memory: SharedMemory,
    causes: u32,
    mask: u32,
    sent: Vec<Vec<u8>>,
    /// Frames on their way out stay on the wire until somebody lets them go.
    wire_blocked: bool,
    has_eeprom: bool,
    tail_writes: usize,
    resets: usize,
    /// The context that was last given, and what of a record has been given.
    context: u64,
    record: Vec<u8>,
}

impl Model {
    fn get(&self, offset: usize) -> usize {
        usize::try_from(self.registers.get(&offset).copied().unwrap_or(0)).expect("64 bits")
    }

    fn at(&self, low: usize, high: usize) -> usize {
        let address =
            u64::try_from(self.get(high)).expect("64 bits") << 32 | u64::try_from(self.get(low)).expect("64 bits");
        usize::try_from(address - PHYSICAL).expect("within the memory")
    }

    fn transmit(&mut self) {
        if self.wire_blocked || self.get(reg::TCTL) & 2 == 0 {
            return;
        }
        let (base, count) = (self.at(reg::TDBAL, reg::TDBAH), self.get(reg::TDLEN) / DESCRIPTOR);
        while self.get(reg::TDH) != self.get(reg::TDT) {
            let head = self.get(reg::TDH);
            let descriptor = base + head * DESCRIPTOR;
            let address = self.memory.read64(descriptor).expect("inside");
            let word = self.memory.read64(descriptor + 8).expect("inside");
            if word >> 29 & 1 == 0 {
                assert_eq!(word & TX_END, TX_END, "frames lie in one buffer");
                let mut frame = vec![0; usize::try_from(word & 0xffff).expect("16 bits")];
                let at = usize::try_from(address - PHYSICAL).expect("inside");
                self.memory.read(at, &mut frame).expect("inside");
                self.sent.push(frame);
            } else if word >> 20 & 15 == 0 {
                // TCP, IPv4, cut; where IP and TCP begin, and where their checksums go.
                assert_eq!((word >> 24 & 7, address), (7, 14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40));
                self.context = word;
            } else {
                assert_eq!((word >> 20 & 15, word >> 26 & 1, word >> 40 & 3), (1, 1, 3), "data, cut, both checksums");
                let mut part = vec![0; usize::try_from(word & 0xf_ffff).expect("20 bits")];
                let at = usize::try_from(address - PHYSICAL).expect("inside");
                self.memory.read(at, &mut part).expect("inside");
                self.record.extend(part);
                if word & TX_END != 0 {
                    self.cut();
                }
            }
            if word & TX_REPORT != 0 {
                self.memory.write64(descriptor + 8, word | TX_DONE).expect("inside");
                self.causes |= INT_TXDW;
            }
            self.registers.insert(reg::TDH, narrow((head + 1) % count));
        }
    }

    /// What is in `record` leaves in frames, as the context says, with no checksums.
    fn cut(&mut self) {
        let field = |shift: u32, bits: u32| usize::try_from(self.context >> shift & ((1 << bits) - 1)).expect("small");
        let (data, headers, segment) = (field(0, 20), field(40, 8), field(48, 16));
        let record = core::mem::take(&mut self.record);
        assert_eq!(record.len(), headers + data);
        for (number, part) in record[headers..].chunks(segment).enumerate() {
            let byte = u8::try_from(number).expect("few");
            self.sent.push([&[byte], &record[1..headers], part].concat());
        }
    }

    /// A frame arrives, in parts of 2,048 bytes. False when there was no buffer.
    fn arrive(&mut self, frame: &[u8], errors: u64) -> bool {
        if self.get(reg::RCTL) & 2 == 0 {
            return false;
        }
        let (base, count) = (self.at(reg::RDBAL, reg::RDBAH), self.get(reg::RDLEN) / DESCRIPTOR);
        let parts = frame.len().div_ceil(BUFFER);
        if (self.get(reg::RDT) + count - self.get(reg::RDH)) % count < parts {
            self.causes |= INT_RXO;
            return false;
        }
        for (i, part) in frame.chunks(BUFFER).enumerate() {
            let head = self.get(reg::RDH);
            let descriptor = base + head * DESCRIPTOR;
            let address = self.memory.read64(descriptor).expect("inside") - PHYSICAL;
            self.memory.write(usize::try_from(address).expect("inside"), part).expect("inside");
            let end = if i + 1 == parts { RX_END } else { 0 };
            self.memory.write64(descriptor + 8, wide(part.len()) | RX_DONE | end | errors << 40).expect("inside");
            self.registers.insert(reg::RDH, narrow((head + 1) % count));
        }
        self.causes |= INT_RXT0;
        true
    }

    fn interrupts(&self) -> bool {
        self.causes & self.mask != 0
    }
}

#[derive(Clone)]
struct Handle(Rc<RefCell<Model>>);

impl Registers for Handle {
    fn read(&self, offset: usize) -> u32 {
        let mut model = self.0.borrow_mut();
        match offset {
            reg::ICR => core::mem::take(&mut model.causes),
            reg::EERD => {
                let command = model.registers.get(&reg::EERD).copied().unwrap_or(0);
                let word = usize::try_from(command >> 8).expect("small");
                let bytes = NIC_MAC.get(2 * word..2 * word + 2).expect("the address only");
                let data = u32::from_le_bytes([0, 0, bytes[0], bytes[1]]);
                if model.has_eeprom && command & 1 != 0 { data | EERD_DONE | command & 0xff00 } else { 0 }
            }
            _ => model.registers.get(&offset).copied().unwrap_or(0),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let mut model = self.0.borrow_mut();
        // A ring is not moved under a NIC that uses it.
        match offset {
            reg::RDBAL | reg::RDBAH | reg::RDLEN | reg::RDH => assert_eq!(model.get(reg::RCTL) & 2, 0),
            reg::TDBAL | reg::TDBAH | reg::TDLEN | reg::TDH => assert_eq!(model.get(reg::TCTL) & 2, 0),
            _ => {}
        }
        match offset {
            reg::IMS => model.mask |= value,
            reg::IMC => model.mask &= !value,
            // As Bochs does it: the bit goes, and nothing else happens.
            reg::CTRL => {
                model.resets += usize::from(value & CTRL_RST != 0);
                model.registers.insert(reg::CTRL, value & !CTRL_RST);
            }
            reg::TDT | reg::TCTL => {
                model.tail_writes += usize::from(offset == reg::TDT);
                model.registers.insert(offset, value);
                model.transmit();
            }
            _ => _ = model.registers.insert(offset, value),
        }
    }
}

fn model(bytes: usize) -> Handle {
    let registers = BTreeMap::from([(reg::STATUS, STATUS_LU)]);
    Handle(Rc::new(RefCell::new(Model {
        registers,
        memory: memory(bytes),
        causes: 0,
        mask: 0,
        sent: vec![],
        wire_blocked: false,
        has_eeprom: true,
        tail_writes: 0,
        resets: 0,
        context: 0,
        record: vec![],
    })))
}

fn start(handle: &Handle) -> E1000<Handle> {
    start_as(1, handle)
}

fn start_as(incarnation: u32, handle: &Handle) -> E1000<Handle> {
    let memory = handle.0.borrow().memory;
    E1000::start(handle.clone(), memory, PHYSICAL, incarnation, |_| {}).expect("starts")
}

fn take(nic: &mut E1000<Handle>) -> Option<Vec<u8>> {
    let received = nic.received()?;
    let mut frame = vec![0; received.len];
    nic.memory.read(received.offset, &mut frame).expect("inside");
    nic.release();
    Some(frame)
}

fn put(nic: &mut E1000<Handle>, frame: &[u8]) -> bool {
    let Some(offset) = nic.buffer() else { return false };
    nic.memory.write(offset, frame).expect("inside");
    nic.send(frame.len());
    true
}

/// A record of so many bytes, 60 of which are headers and 600 the data of each frame. Its first byte is 0, which frames are numbered in.
fn put_record(nic: &mut E1000<Handle>, len: usize, byte: u8) -> bool {
    let Some(offset) = nic.buffer_of(len) else { return false };
    nic.memory.write(offset, &vec![byte; len]).expect("inside");
    nic.send_segments(len, 60, 600);
    true
}

/// The frames of it.
fn pieces(len: usize, byte: u8) -> Vec<Vec<u8>> {
    let parts = vec![byte; len - 60];
    let number = |number: usize| u8::try_from(number).expect("few");
    parts.chunks(600).enumerate().map(|(i, part)| [&[number(i)], &[byte; 59][..], part].concat()).collect()
}

fn frame(number: usize) -> Vec<u8> {
    let byte = u8::try_from(number % 251).expect("small");
    vec![byte; MIN_FRAME + number % (MAX_FRAME - MIN_FRAME + 1)]
}

#[test]
fn starts_with_what_the_memory_allows() {
    for ((rx, tx), bytes) in SIZES.into_iter().map(|size| (size, dma_bytes(size))) {
        let nic = start(&model(bytes));
        assert_eq!(nic.descriptors(), (rx, tx));
        assert_eq!(nic.mac(), Mac::new(NIC_MAC));
        assert!(nic.link_up());
    }
    let small = model(DMA_BYTES_MIN - 16);
    let memory = small.0.borrow().memory;
    assert_eq!(E1000::start(small, memory, PHYSICAL, 1, |_| {}).err(), Some(StartError::Memory));
}

#[test]
fn a_device_that_is_not_there_is_told() {
    let handle = model(DMA_BYTES_MIN);
    handle.0.borrow_mut().registers.insert(reg::STATUS, u32::MAX);
    let memory = handle.0.borrow().memory;
    assert_eq!(E1000::start(handle, memory, PHYSICAL, 1, |_| {}).err(), Some(StartError::Absent));
}

#[test]
fn without_an_eeprom_the_loaded_address_is_taken() {
    let handle = model(DMA_BYTES_MIN);
    {
        let mut model = handle.0.borrow_mut();
        model.has_eeprom = false;
        model.registers.insert(reg::RAL0, 0x0302_0152);
        model.registers.insert(reg::RAH0, 0x8000_0504);
    }
    assert_eq!(start(&handle).mac(), Mac::new([0x52, 1, 2, 3, 4, 5]));
}

#[test]
fn every_frame_arrives_once_and_in_order_over_many_rounds() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    for number in 0..200 {
        assert!(handle.0.borrow_mut().arrive(&frame(number), 0));
        assert_eq!(take(&mut nic), Some(frame(number)));
        assert_eq!(take(&mut nic), None);
        nic.flush();
    }
    assert_eq!(nic.faults(), Faults::default());
}

#[test]
fn a_full_receive_ring_overruns_and_recovers() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let arrived = (0..100).filter(|&number| handle.0.borrow_mut().arrive(&frame(number), 0)).count();
    assert_eq!(arrived, nic.descriptors().0 - 1);
    nic.interrupt();
    assert_eq!(nic.faults().overruns, 1);
    for number in 0..arrived {
        assert_eq!(take(&mut nic), Some(frame(number)));
    }
    nic.flush();
    assert!(handle.0.borrow_mut().arrive(&frame(7), 0));
    assert_eq!(take(&mut nic), Some(frame(7)));
}

#[test]
fn a_long_batch_gives_buffers_back_on_the_way() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    // Never flushed: what arrives while a batch is handled must find buffers all the same.
    for number in 0..500 {
        assert!(handle.0.borrow_mut().arrive(&frame(number), 0), "{number}");
        assert_eq!(take(&mut nic), Some(frame(number)));
    }
}

#[test]
fn bad_frames_are_dropped_and_counted_once() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    for (bytes, errors) in [(60, 1), (MAX_FRAME + 1, 0), (MIN_FRAME - 1, 0), (5000, 0), (60, 0x80)] {
        assert!(handle.0.borrow_mut().arrive(&vec![1; bytes], errors));
    }
    assert!(handle.0.borrow_mut().arrive(&frame(3), 0));
    assert_eq!(take(&mut nic), Some(frame(3)));
    assert_eq!(nic.faults().bad, 5);
    // Checksum errors of what the guest checks itself are none of ours.
    assert!(handle.0.borrow_mut().arrive(&frame(4), 0x60));
    assert_eq!(take(&mut nic), Some(frame(4)));
}

#[test]
fn frames_leave_in_order_with_one_tail_write_a_batch() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let before = handle.0.borrow().tail_writes;
    for number in 0..10 {
        assert!(put(&mut nic, &frame(number)));
    }
    assert!(handle.0.borrow().sent.is_empty());
    nic.flush();
    nic.flush();
    assert_eq!(handle.0.borrow().tail_writes - before, 1);
    assert_eq!(handle.0.borrow().sent, (0..10).map(frame).collect::<Vec<_>>());
    for number in 10..300 {
        assert!(put(&mut nic, &frame(number)));
        nic.flush();
    }
    assert_eq!(handle.0.borrow().sent, (0..300).map(frame).collect::<Vec<_>>());
}

#[test]
fn a_full_transmit_ring_waits_for_the_interrupt() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    handle.0.borrow_mut().wire_blocked = true;
    let room = (0..100).take_while(|&number| put(&mut nic, &frame(number))).count();
    assert_eq!(room, nic.descriptors().1 - 1);
    nic.flush();
    assert!(!handle.0.borrow().interrupts());
    assert!(!nic.interrupt_on_space());
    assert!(!handle.0.borrow().interrupts());
    {
        let mut model = handle.0.borrow_mut();
        model.wire_blocked = false;
        model.transmit();
        assert!(model.interrupts());
    }
    nic.interrupt();
    assert!(!handle.0.borrow().interrupts());
    assert!(put(&mut nic, &frame(room)));
    nic.flush();
    assert_eq!(handle.0.borrow().sent, (0..=room).map(frame).collect::<Vec<_>>());
    // From now on, sending interrupts nobody again.
    (0..20).for_each(|number| assert!(put(&mut nic, &frame(number))));
    nic.flush();
    assert!(!handle.0.borrow().interrupts());
}

#[test]
fn records_are_left_to_the_nic() {
    for len in [61, 700, 2048, 2049, 4096, 4097, 6145, 8184] {
        let handle = model(DMA_BYTES);
        let mut nic = start(&handle);
        assert!(nic.cuts() && put(&mut nic, &frame(3)));
        assert!(put_record(&mut nic, len, 9));
        assert!(put(&mut nic, &frame(4)));
        nic.flush();
        let expected = [vec![frame(3)], pieces(len, 9), vec![frame(4)]].concat();
        assert_eq!(handle.0.borrow().sent, expected, "{len}");
    }
}

#[test]
fn records_go_over_the_end_of_the_ring() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    let mut expected = vec![];
    for number in 0..200 {
        let byte = u8::try_from(number).expect("small");
        assert!(put_record(&mut nic, 7_000, byte), "{number}");
        expected.extend(pieces(7_000, byte));
        assert!(put(&mut nic, &frame(number)));
        expected.push(frame(number));
        nic.flush();
    }
    assert!(handle.0.borrow().sent == expected);
}

#[test]
fn link_changes_are_seen() {
    let handle = model(DMA_BYTES_MIN);
    let mut nic = start(&handle);
    handle.0.borrow_mut().registers.insert(reg::STATUS, 0);
    handle.0.borrow_mut().causes |= INT_LSC;
    assert!(handle.0.borrow().interrupts());
    nic.interrupt();
    assert!(!nic.link_up());
}

#[test]
fn a_successor_starts_from_whatever_state_is_left() {
    let handle = model(DMA_BYTES_MIN);
    let mut first = start(&handle);
    handle.0.borrow_mut().wire_blocked = true;
    for number in 0..9 {
        assert!(put(&mut first, &frame(number)));
        handle.0.borrow_mut().arrive(&frame(number), 0);
    }
    first.flush();
    take(&mut first);
    first.interrupt_on_space();
    drop(first);

    let mut second = start_as(2, &handle);
    handle.0.borrow_mut().wire_blocked = false;
    assert_eq!(handle.0.borrow().mask, INTERRUPTS);
    assert_eq!(take(&mut second), None);
    // What the dead one had not sent is lost, not sent twice or later.
    second.flush();
    assert!(handle.0.borrow().sent.is_empty());
    assert!(put(&mut second, &frame(1)));
    second.flush();
    assert_eq!(handle.0.borrow().sent, [frame(1)]);
    assert!(handle.0.borrow_mut().arrive(&frame(2), 0));
    assert_eq!(take(&mut second), Some(frame(2)));
}

#[test]
fn a_successor_resets_nothing_and_loses_nothing() {
    let handle = model(DMA_BYTES_MIN);
    let mut first = start(&handle);
    for number in 0..40 {
        assert!(handle.0.borrow_mut().arrive(&frame(number), 0));
        assert_eq!(take(&mut first), Some(frame(number)));
    }
    // Two are released and not told, and three were never looked at.
    first.flush();
    for number in 40..45 {
        assert!(handle.0.borrow_mut().arrive(&frame(number), 0));
    }
    take(&mut first);
    take(&mut first);
    assert!(put(&mut first, &frame(1)));
    first.flush();
    first.interrupt_on_space();
    drop(first);

    handle.0.borrow_mut().resets = 0;
    let mut second = start_as(2, &handle);
    assert_eq!((handle.0.borrow().resets, handle.0.borrow().mask), (0, INTERRUPTS));
    assert_eq!((second.mac(), second.link_up()), (Mac::new(NIC_MAC), true));
    for number in 42..45 {
        assert_eq!(take(&mut second), Some(frame(number)));
    }
    assert_eq!(take(&mut second), None);
    for number in 0..200 {
        assert!(handle.0.borrow_mut().arrive(&frame(number), 0));
        assert_eq!(take(&mut second), Some(frame(number)));
        assert!(put(&mut second, &frame(number)));
        second.flush();
    }
    let sent: Vec<_> = core::iter::once(frame(1)).chain((0..200).map(frame)).collect();
    assert_eq!(handle.0.borrow().sent, sent);
    drop(second);
    start_as(3, &handle);
    assert_eq!(handle.0.borrow().resets, 0);
    start_as(4, &handle);
    assert_eq!(handle.0.borrow().resets, 1, "one that hangs comes back");
}

#[test]
fn what_is_not_as_it_was_left_is_reset() {
    type Spoil = fn(&mut Model);
    let spoils: [Spoil; 10] = [
        |model| _ = model.registers.insert(reg::RCTL, RCTL | 1 << 5),
        |model| _ = model.registers.insert(reg::TCTL, 0),
        |model| _ = model.registers.insert(reg::RAH0, 0),
        |model| _ = model.registers.insert(reg::RDBAL, 0x10),
        |model| _ = model.registers.insert(reg::TDLEN, 128),
        |model| _ = model.registers.insert(reg::RDT, 1 << 20),
        |model| _ = model.registers.insert(reg::RDH, u32::MAX),
        // A descriptor of the NIC's leads elsewhere.
        |model| model.memory.write64(5 * DESCRIPTOR, 0).expect("inside"),
        // One before the head has no frame, one behind it has one.
        |model| model.memory.write64(DESCRIPTOR + 8, 0).expect("inside"),
        |model| model.memory.write64(20 * DESCRIPTOR + 8, RX_DONE).expect("inside"),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let handle = model(DMA_BYTES_MIN);
        drop(start(&handle));
        (0..3).for_each(|number| assert!(handle.0.borrow_mut().arrive(&frame(number), 0)));
        handle.0.borrow_mut().resets = 0;
        spoil(&mut handle.0.borrow_mut());
        let mut second = start_as(2, &handle);
        assert_eq!(handle.0.borrow().resets, 1, "{number}");
        assert!(handle.0.borrow_mut().arrive(&frame(2), 0));
        assert_eq!(take(&mut second), Some(frame(2)), "{number}");
    }
}

proptest! {
    /// Any interleaving of arrival, handling, sending and flushing keeps order and loses nothing that was accepted.
    #[test]
    fn behaves_like_two_queues(steps in proptest::collection::vec(0..8_u8, 0..400)) {
        let handle = model(DMA_BYTES_MIN);
        let mut nic = start(&handle);
        let mut arriving = VecDeque::new();
        let mut leaving = vec![];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    if handle.0.borrow_mut().arrive(&frame(number), 0) {
                        arriving.push_back(frame(number));
                    }
                }
                2 => prop_assert_eq!(take(&mut nic), arriving.pop_front()),
                3 => {
                    if put(&mut nic, &frame(number)) {
                        leaving.push(frame(number));
                    }
                }
                7 => {
                    let (len, byte) = (61 + number * 397 % 8_000, u8::try_from(number % 251).expect("small"));
                    if put_record(&mut nic, len, byte) {
                        leaving.extend(pieces(len, byte));
                    }
                }
                4 => nic.flush(),
                // What was not flushed is nobody's; the driver behind it goes on with the rest.
                5 if !handle.0.borrow().wire_blocked => {
                    nic.flush();
                    drop(nic);
                    nic = start_as(2, &handle);
                }
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
