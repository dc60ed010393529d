//! The control ring of a VM that controls the machine: where it lies in the VM's memory. What goes through it is
//! [`crate::control`]; the request page behind it is [`crate::request_page`]. Only the VMs of images whose manifest says so have it.

use crate::guest::IMAGE_BASE;
use crate::limits::PAGE_SIZE;
use crate::ring::{HEADER_BYTES, SLOT_BYTES};

/// Guest-physical address of the page with both rings ([`crate::guest::RegisterPage::control_page`]).
pub const CONTROL_PAGE: u64 = 0x1_e000;
/// Guest-physical address of the request page, which follows.
pub const REQUEST_PAGE: u64 = CONTROL_PAGE + PAGE_SIZE;
/// Offset of the ring from the core in the control page: header, then slots.
pub const ANSWERS: usize = 0;
/// Slots of the ring from the core.
pub const ANSWER_SLOTS: u32 = 32;
/// Offset of the ring to the core in the control page: header, then slots.
pub const REQUESTS: usize = ANSWERS + bytes(ANSWER_SLOTS);
/// Slots of the ring to the core.
pub const REQUEST_SLOTS: u32 = 16;
/// VMs that can have a control ring at the same time.
pub const MAX_CONTROL_VMS: usize = 4;

/// Answers for which there is room before the core takes a request: more than any request has.
pub const ROOM: u32 = 16;

/// Bytes that a ring of so many slots takes in the control page.
// A small number.
#[allow(clippy::cast_possible_truncation)]
pub const fn bytes(slots: u32) -> usize {
    HEADER_BYTES + slots as usize * SLOT_BYTES
}

const _: () = {
    assert!(REQUESTS + bytes(REQUEST_SLOTS) <= crate::request_page::BYTES);
    assert!(REQUEST_PAGE + PAGE_SIZE == IMAGE_BASE);
    // The largest NIC ends before them.
    assert!(crate::guest::NIC_BASE + crate::nic::WINDOW_STRIDE <= CONTROL_PAGE);
    assert!(ROOM < ANSWER_SLOTS);
};
