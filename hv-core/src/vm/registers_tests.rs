use super::*;
use crate::vm::bench_test::Bench;
use abi::guest::{BOOT_ARGS, BOOT_ARGS_MAX};
use zerocopy::FromZeros;

/// The registers of a VM, all zeros.
fn registers() -> (Registers, Bench) {
    let mut bench = Bench::new(16);
    (bench.memory().1, bench)
}

fn word(registers: &Registers, offset: usize) -> u64 {
    registers.memory().load64(offset).expect("inside")
}

fn put(registers: &Registers, offset: usize, value: u64) {
    registers.memory().store64(offset, value).expect("inside");
}

#[test]
fn the_page_is_written_as_it_is_with_its_arguments_behind_it() {
    let (registers, _bench) = registers();
    let mut page = RegisterPage::new_zeroed();
    page.magic = abi::guest::MAGIC;
    page.alarm = 7;
    registers.initialise(&page, b"ip=dhcp");
    assert_eq!(word(&registers, field!(magic)), abi::guest::MAGIC);
    assert_eq!(word(&registers, field!(alarm)), 7);
    let mut args = [0; BOOT_ARGS_MAX];
    registers.memory().read(index(BOOT_ARGS), &mut args).expect("inside");
    assert_eq!((&args[..7], args[7..].iter().all(|&byte| byte == 0)), (b"ip=dhcp".as_slice(), true));
    assert_eq!(registers.memory().len(), 4096);
}

#[test]
fn what_is_raised_is_pending_and_stays_so() {
    let (registers, _bench) = registers();
    assert_eq!(registers.pending(), 0);
    registers.raise(0b101);
    registers.raise(0b110);
    assert_eq!((registers.pending(), word(&registers, field!(pending))), (0b111, 0b111));
    registers.raise(1 << 63);
    assert_eq!(registers.pending(), 1 << 63 | 0b111);
}

#[test]
fn wanted_is_what_is_pending_and_enabled() {
    let (registers, _bench) = registers();
    registers.raise(0b110);
    assert_eq!(registers.wanted(), 0);
    put(&registers, field!(enabled), 0b011);
    assert_eq!((registers.wanted(), registers.pending()), (0b010, 0b110));
}

#[test]
fn upcalls_are_on_for_the_value_one_only() {
    let (registers, _bench) = registers();
    assert!(!registers.upcalls_on());
    registers.set_upcalls(true);
    assert!(registers.upcalls_on());
    assert_eq!(registers.memory().load32(field!(upcalls_on)), Some(1));
    registers.set_upcalls(false);
    assert_eq!((registers.upcalls_on(), registers.memory().load32(field!(upcalls_on))), (false, Some(0)));
    for value in [2, 3, u32::MAX] {
        registers.memory().store32(field!(upcalls_on), value).expect("inside");
        assert!(!registers.upcalls_on());
    }
}

#[test]
fn the_guest_sees_that_its_fault_handler_runs() {
    let (registers, _bench) = registers();
    registers.set_in_fault(true);
    assert_eq!(registers.memory().load32(field!(in_fault)), Some(1));
    registers.set_in_fault(false);
    assert_eq!(registers.memory().load32(field!(in_fault)), Some(0));
}

#[test]
fn the_guest_sees_when_its_alarm_is_due() {
    let (registers, _bench) = registers();
    registers.set_alarm(0x1234_5678_9abc);
    assert_eq!(word(&registers, field!(alarm)), 0x1234_5678_9abc);
}

#[test]
fn an_entry_is_registered_when_its_address_is_not_zero() {
    let (registers, _bench) = registers();
    put(&registers, field!(upcall_stack), 0x5000);
    put(&registers, field!(fault_stack), 0x6000);
    assert_eq!((registers.upcall_entry(), registers.fault_entry()), (None, None));
    put(&registers, field!(upcall_entry), 0x2_0000);
    assert_eq!(registers.upcall_entry(), Some(Entry { rip: 0x2_0000, rsp: 0x5000 }));
    assert_eq!(registers.fault_entry(), None);
    put(&registers, field!(fault_entry), 0x2_0010);
    assert_eq!(registers.fault_entry(), Some(Entry { rip: 0x2_0010, rsp: 0x6000 }));
}

#[test]
fn what_an_upcall_interrupted_is_read_back_as_the_guest_left_it() {
    let (registers, _bench) = registers();
    let at = Interrupted { rip: 1, rsp: 2, rflags: 3, rax: 4 };
    registers.set_upcall(&at);
    assert_eq!((registers.upcall(), registers.fault()), (at, Interrupted::default()));
    put(&registers, field!(upcall) + 8, 99);
    assert_eq!(registers.upcall(), Interrupted { rsp: 99, ..at });
}

#[test]
fn a_fault_is_noted_whole_and_its_place_is_read_back() {
    let (registers, _bench) = registers();
    let at = Interrupted { rip: 5, rsp: 6, rflags: 7, rax: 8 };
    registers.set_fault(&FaultRecord { at, vector: 14, error_code: 6, address: 0xdead });
    assert_eq!((registers.fault(), registers.upcall()), (at, Interrupted::default()));
    let fault = field!(fault);
    assert_eq!(registers.memory().load32(fault + offset_of!(FaultRecord, vector)), Some(14));
    assert_eq!(registers.memory().load32(fault + offset_of!(FaultRecord, error_code)), Some(6));
    assert_eq!(word(&registers, fault + offset_of!(FaultRecord, address)), 0xdead);
}
