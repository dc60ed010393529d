//! What a guest needs at the least: hypercalls, the time, its boot arguments, the console, the receive ring.

use abi::guest::{
    BOOT_ARGS, BOOT_ARGS_MAX, CONSOLE_RING, CONSOLE_SLOTS, CONSOLE_TEXT_BYTES, ConsoleSlot, NIC_BASE, PAGE_TABLES,
    REGISTER_PAGE, RegisterPage, device, hypercall as number,
};
use abi::limits::PAGE_SIZE;
use abi::nic::{MAX_SLOTS_TOTAL, NicPage, RX_RING, RX_SLOTS, TX_RING, nic_pages, tx_slots_offset};
use abi::ring::{HEADER_BYTES, SLOT_BYTES};
use abi::vm::VmId;
use core::arch::asm;
use core::fmt::{self, Write};
use core::mem::offset_of;
use ring::{PacketConsumer, PacketProducer, Producer, SharedMemory, SlotWords};

/// A hypercall.
#[inline(always)]
pub fn hypercall(number: u64, first: u64) -> u64 {
    let result;
    // SAFETY: the hypercalls that this guest makes (NOP, IDLE, KICK, EXIT) change RAX and the register page, to which no
    // reference points.
    unsafe { asm!("vmcall", inlateout("rax") number => result, in("rdi") first, in("rsi") 0, options(nostack)) };
    result
}

/// The time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC only writes these two registers. It is not moved across hypercalls: both are volatile.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a byte to a page that is only used by address.
///
/// # Safety
/// No Rust object lies there.
#[inline(always)]
pub unsafe fn touch(address: u64) {
    // SAFETY: upheld by the caller.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) address, options(nostack, preserves_flags)) };
}

/// Gives the rest of the turn up.
#[inline(always)]
pub fn yield_turn() {
    hypercall(number::IDLE, 0);
}

/// Ends this VM.
pub fn exit(code: u64) -> ! {
    loop {
        hypercall(number::EXIT, code);
    }
}

fn memory(address: u64, bytes: u64) -> SharedMemory {
    let (Ok(address), Ok(bytes)) = (usize::try_from(address), usize::try_from(bytes)) else { exit(1) };
    // SAFETY: the virtual architecture maps these pages for as long as the VM exists, below the image, where no Rust object
    // lies.
    unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(address), bytes) }
}

/// The register page.
pub fn registers() -> SharedMemory {
    memory(REGISTER_PAGE, PAGE_TABLES - REGISTER_PAGE)
}

/// The number of this VM's slot.
pub fn slot() -> u32 {
    registers().load64(offset_of!(RegisterPage, vm_id)).map_or(0, |id| VmId::from_raw(id).slot.number())
}

/// Ticks of the TSC in a second.
pub fn tsc_hz() -> u64 {
    registers().load64(offset_of!(RegisterPage, tsc_hz)).unwrap_or(0)
}

/// Selects what ends an idle.
pub fn enable(pending: u64) {
    let _ = registers().store64(offset_of!(RegisterPage, enabled), pending);
}

/// Forgets what is pending.
pub fn clear_pending() {
    let _ = registers().store64(offset_of!(RegisterPage, pending), 0);
}

/// The boot arguments.
pub struct Args {
    bytes: [u8; BOOT_ARGS_MAX],
    len: usize,
}

impl Args {
    /// Those of this VM.
    pub fn read() -> Args {
        let page = registers();
        let len = page.load32(offset_of!(RegisterPage, boot_args_len)).and_then(|len| usize::try_from(len).ok());
        let mut args = Args { bytes: [0; BOOT_ARGS_MAX], len: len.unwrap_or(0).min(BOOT_ARGS_MAX) };
        let _ = page.read(usize::try_from(BOOT_ARGS).unwrap_or(0), &mut args.bytes);
        args
    }

    /// The value of `key=value`; the last one counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        let text = core::str::from_utf8(&self.bytes[..self.len]).ok()?;
        text.split(' ')
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next_back()
    }
}

/// Prints a line of at most 240 bytes on the console.
pub fn print(text: fmt::Arguments) {
    let mut line = Line { text: [0; 240], len: 0 };
    // What is too long is cut.
    let _ = line.write_fmt(text);
    let bytes = HEADER_BYTES + usize::try_from(CONSOLE_SLOTS).unwrap_or(0) * SLOT_BYTES;
    let ring = usize::try_from(CONSOLE_RING).ok().and_then(|at| registers().sub(at, bytes));
    let Some(Ok(mut producer)) = ring.map(|ring| Producer::attach_contiguous(&ring, CONSOLE_SLOTS)) else { return };
    let mut pieces = line.text[..line.len].chunks(CONSOLE_TEXT_BYTES).peekable();
    while let Some(piece) = pieces.next() {
        let mut slot = ConsoleSlot { len: 0, more: pieces.peek().is_some().into(), text: [0; CONSOLE_TEXT_BYTES] };
        slot.len = u8::try_from(piece.len()).unwrap_or(0);
        slot.text[..piece.len()].copy_from_slice(piece);
        let words: SlotWords = zerocopy::transmute!(slot);
        // The ring has been emptied by the last kick and has space for four pieces.
        let _ = producer.stage_words(&words);
    }
    producer.publish();
    hypercall(number::KICK, device::CONSOLE);
}

struct Line {
    text: [u8; 240],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.len() - self.len;
        let piece = &text.as_bytes()[..text.len().min(room)];
        self.text[self.len..self.len + piece.len()].copy_from_slice(piece);
        self.len += piece.len();
        Ok(())
    }
}

/// The pages of the NIC.
fn nic() -> SharedMemory {
    memory(NIC_BASE, nic_pages(MAX_SLOTS_TOTAL / 2, MAX_SLOTS_TOTAL / 2) * PAGE_SIZE)
}

/// The transmit ring; `None` without a NIC.
pub fn sender() -> Option<PacketProducer<SharedMemory>> {
    let nic = nic();
    let slots = nic.load32(offset_of!(NicPage, tx_slots))?;
    let header = nic.sub(usize::try_from(TX_RING).ok()?, HEADER_BYTES)?;
    let at = tx_slots_offset(nic.load32(offset_of!(NicPage, rx_slots))?);
    let bytes = usize::try_from(slots).ok()?.checked_mul(SLOT_BYTES)?;
    let place = nic.sub(usize::try_from(at).ok()?, bytes)?;
    PacketProducer::attach(&header, &place, slots).ok()
}

/// The receive ring; `None` without a NIC.
pub fn receiver() -> Option<PacketConsumer<SharedMemory>> {
    let nic = nic();
    let slots = nic.load32(offset_of!(NicPage, rx_slots))?;
    let header = nic.sub(usize::try_from(RX_RING).ok()?, HEADER_BYTES)?;
    let bytes = usize::try_from(slots).ok()?.checked_mul(SLOT_BYTES)?;
    let place = nic.sub(usize::try_from(RX_SLOTS).ok()?, bytes)?;
    PacketConsumer::attach(&header, &place, slots).ok()
}
