//! Pages that the simulated machine shares with the guest.

use abi::guest::{BOOT_ARGS, CONSOLE_INPUT_SLOTS, CONSOLE_SLOTS, MAGIC, NIC_BASE, RegisterPage};
use abi::nic::{DEFAULT_SLOTS, MAX_SEGMENTS, NicPage, Node, mac_of, nic_pages};
use abi::vm::{Slot, VmId};
use core::mem::offset_of;
use ring::SharedMemory;
use std::cell::Cell;
use std::{thread_local, vec};

thread_local! {
    static REGISTERS: Cell<Option<SharedMemory>> = const { Cell::new(None) };
    static NIC: Cell<Option<SharedMemory>> = const { Cell::new(None) };
}

fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(vec![0u64; bytes / 8].leak())
}

/// An offset in a page.
pub(crate) fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("small")
}

/// A new register page with these boot arguments, at the TSC `now`, and the pages of a NIC with the MAC address of VM slot 0.
pub(crate) fn build(boot_args: &str, now: u64) {
    let registers = memory(4096);
    let field = |offset: usize, value: u64| registers.write64(offset, value).expect("in the page");
    field(offset_of!(RegisterPage, magic), MAGIC);
    field(offset_of!(RegisterPage, abi_version), u64::from(abi::ABI_VERSION)); // and a sequence word of 0
    field(offset_of!(RegisterPage, vm_id), VmId::new(0, 1).raw());
    field(offset_of!(RegisterPage, memory_bytes), 16 << 20);
    field(offset_of!(RegisterPage, tsc_hz), 1_000_000_000);
    field(offset_of!(RegisterPage, ns_per_tick), 1 << 32);
    field(offset_of!(RegisterPage, clock_tsc), now);
    field(offset_of!(RegisterPage, clock_unix_ns), 1_000_000_000_000_000_000);
    field(offset_of!(RegisterPage, generation_id), 0x1234_5678_9abc_def0);
    field(offset_of!(RegisterPage, nic_page), NIC_BASE);
    let half = |offset: usize, value: u32| registers.write32(offset, value).expect("in the page");
    half(offset_of!(RegisterPage, boot_args_len), u32::try_from(boot_args.len()).expect("short"));
    half(offset_of!(RegisterPage, console_slots), CONSOLE_SLOTS);
    half(offset_of!(RegisterPage, console_input_slots), CONSOLE_INPUT_SLOTS);
    registers.write(at(BOOT_ARGS), boot_args.as_bytes()).expect("short");
    let nic = memory(at(nic_pages(DEFAULT_SLOTS, DEFAULT_SLOTS) * 4096));
    nic.write(offset_of!(NicPage, mac), &mac_of(Node::new(0x4_64b0), Slot::new(0))).expect("in the page");
    for slots in [offset_of!(NicPage, rx_slots), offset_of!(NicPage, tx_slots)] {
        nic.write32(slots, DEFAULT_SLOTS).expect("in the page");
    }
    nic.write32(offset_of!(NicPage, max_frame), 1514).expect("in the page");
    nic.write32(offset_of!(NicPage, link_up), 1).expect("in the page");
    nic.write32(offset_of!(NicPage, max_segments), u32::try_from(MAX_SEGMENTS).expect("short")).expect("in the page");
    nic.write32(offset_of!(NicPage, nic_cuts), 1).expect("in the page");
    REGISTERS.set(Some(registers));
    NIC.set(Some(nic));
}

/// The register page.
pub(crate) fn registers() -> SharedMemory {
    REGISTERS.get().expect("a test that needs a machine builds one with Sim::new")
}

/// The NIC page and the slots behind it.
pub(crate) fn nic() -> SharedMemory {
    NIC.get().expect("a test that needs a machine builds one with Sim::new")
}

/// Sets pending bits.
pub(crate) fn raise(bits: u64) {
    registers().fetch_or64(offset_of!(RegisterPage, pending), bits).expect("in the page");
}
