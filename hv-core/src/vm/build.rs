//! What a VM gets at its admission: memory with its first pages, register page, NIC, processor.

use super::{Memory, PageError, Registers, Vm};
use crate::board::Board;
use crate::component::{Endpoint, EndpointId, Party};
use crate::kernel::Cpu;
use crate::memory::{Frames, PhysAddr, Reservation, core_memory};
use abi::claim::Claim;
use abi::guest::{CONSOLE_INPUT_SLOTS, CONSOLE_SLOTS, MAGIC, NIC_BASE, PAGE_TABLES, REGISTER_PAGE, RegisterPage};
use abi::guest_control::{self, ANSWER_SLOTS, ANSWERS, CONTROL_PAGE, REQUEST_PAGE, REQUEST_SLOTS, REQUESTS};
use abi::guest_disk::{DISK_BASE, PAGES};
use abi::limits::{PAGE_SHIFT, PAGE_SIZE};
use abi::log::{BuildError, Part, ProcessorError};
use abi::nic::{self, NicPage};
use abi::service::Service;
use abi::vm::VmId;
use backend::{Backend, Vcpu, VcpuConfig};
use core::ptr::NonNull;
use zerocopy::{FromZeros, IntoBytes};

/// Present, writable; and for a leaf: 1 GiB (SDM vol. 3, tables 4-15 and 4-16).
const TABLE_ENTRY: u64 = 0x3;
const HUGE_ENTRY: u64 = 0x83;

fn at(part: Part) -> impl Fn(PageError) -> BuildError {
    move |error| match error {
        PageError::NoFrame | PageError::Limit => BuildError::NoFrame(part),
        PageError::NoSuchPage => BuildError::NoPage(part),
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Memory, register page, page tables, NIC pages and processor of a VM with these boot arguments. Returns the memory and the register page in it.
    ///
    /// # Errors
    /// [`BuildError`]; what had been built is gone again.
    pub fn build(
        &mut self,
        vm: &mut Vm<B>,
        reservation: Reservation,
        args: &[u8],
    ) -> Result<(Memory<B>, Registers), BuildError> {
        let Some(image) = self.images.get(vm.image) else {
            reservation.close(&mut self.frames);
            return Err(BuildError::NoImage);
        };
        let pages = u32::try_from(image.entry.memory_bytes >> PAGE_SHIFT).unwrap_or(u32::MAX);
        let memory = Memory::new(&self.backend, &mut self.frames, reservation, vm.slot(), pages, image.end);
        let mut memory = memory.ok_or(BuildError::NoFrame(Part::NestedTables))?;
        match self.fill(vm, args, &mut memory) {
            Ok(registers) => Ok((memory, registers)),
            Err(why) => {
                // Before its rings' frames are somebody else's.
                self.forget_caller(vm);
                self.backend.flush(&mut vm.vcpu, memory.tables());
                // It has nothing out.
                let _ = memory.release(&mut self.frames);
                Err(why)
            }
        }
    }

    /// Put the first pages into a VM's memory, and set its processor up. Returns its register page.
    fn fill(&mut self, vm: &mut Vm<B>, args: &[u8], memory: &mut Memory<B>) -> Result<Registers, BuildError> {
        let mac = nic::mac_of(self.node(), vm.slot());
        let Self { frames, images, endpoints, .. } = self;
        let image = images.get(vm.image).ok_or(BuildError::NoImage)?;
        let register_page = new_page(memory, frames, REGISTER_PAGE, Part::RegisterPage)?;
        let pml4 = new_page(memory, frames, PAGE_TABLES, Part::PageTables)?;
        let pdpt = new_page(memory, frames, PAGE_TABLES + PAGE_SIZE, Part::PageTables)?;
        // Whole frames hold their first word.
        let _ = core_memory(pml4, PAGE_SIZE).store64(0, (PAGE_TABLES + PAGE_SIZE) | TABLE_ENTRY);
        let _ = core_memory(pdpt, PAGE_SIZE).store64(0, HUGE_ENTRY);
        let (rx_slots, tx_slots) = (image.entry.rx_slots, image.entry.tx_slots);
        let nic_page = if rx_slots == 0 || tx_slots == 0 {
            0
        } else {
            build_nic(memory, frames, mac, rx_slots, tx_slots)?;
            NIC_BASE
        };
        if !vm.attachment.is_none() {
            for page in 0..PAGES {
                new_page(memory, frames, DISK_BASE + page * PAGE_SIZE, Part::Disk)?;
            }
        }
        let start = image.start;
        if image.entry.controls() {
            if !endpoints.has_guest_room() {
                return Err(BuildError::NoControl);
            }
            let ring = new_page(memory, frames, CONTROL_PAGE, Part::Control)?;
            let page = new_page(memory, frames, REQUEST_PAGE, Part::Control)?;
            let endpoint = control_endpoint(vm.id, ring, page).ok_or(BuildError::NoPage(Part::Control))?;
            vm.control = endpoints.add_guest(endpoint).ok_or(BuildError::NoControl)?;
        }
        let registers = self.build_registers(vm, memory.reservation().claim(), args, register_page, nic_page)?;
        registers.set_held(memory.reservation().held());
        let frame_pointer =
            NonNull::new(vm.control_frame.as_ptr()).ok_or(BuildError::Processor(ProcessorError::Unknown))?;
        let config = VcpuConfig {
            frame: vm.control_frame.as_u64(),
            frame_pointer,
            slot: vm.slot().number(),
            tables: memory.tables(),
            entry: start,
            page_tables: PAGE_TABLES,
            argument: REGISTER_PAGE,
            tsc_offset: 0,
        };
        // SAFETY: the processor lies in the VM's context frame and the structure in its control frame; both stay the VM's
        // own until `reclaim`, which is after `release`. The tables live as long.
        unsafe { vm.vcpu.init(&mut self.backend, &config) }.map_err(|error| BuildError::Processor(error.into()))?;
        Ok(registers)
    }

    /// Write the register page as the guest finds it at its start.
    fn build_registers(
        &mut self,
        vm: &Vm<B>,
        claim: Claim,
        args: &[u8],
        frame: PhysAddr,
        nic_page: u64,
    ) -> Result<Registers, BuildError> {
        let image = self.images.get(vm.image).ok_or(BuildError::NoImage)?;
        let mut page = RegisterPage::new_zeroed();
        page.magic = MAGIC;
        page.abi_version = abi::ABI_VERSION;
        page.vm_id = vm.id.raw();
        page.memory_bytes = image.entry.memory_bytes;
        page.tsc_hz = self.time.tsc_hz();
        (page.reserve_frames, page.limit_frames) = (claim.reserve, claim.limit);
        let clock = self.clock.reading(vm.created_tsc);
        (page.ns_per_tick, page.clock_tsc, page.clock_unix_ns) = (clock.ns_per_tick, clock.tsc, clock.unix_ns);
        page.generation_id = self.board.random();
        // At most BOOT_ARGS_MAX.
        page.boot_args_len = u32::try_from(args.len()).unwrap_or(0);
        page.console_slots = CONSOLE_SLOTS;
        page.console_input_slots = CONSOLE_INPUT_SLOTS;
        page.nic_page = nic_page;
        page.disk_page = if vm.attachment.is_none() { 0 } else { DISK_BASE };
        page.control_page = if vm.control == EndpointId::NONE { 0 } else { CONTROL_PAGE };
        page.alarm = u64::MAX;
        page.may_go_out = u32::from(self.pool_bytes() != 0);
        let registers = Registers::new(frame).ok_or(BuildError::NoPage(Part::RegisterPage))?;
        registers.initialise(&page, args);
        Ok(registers)
    }
}

/// The core's end of the control rings of a VM, in the page `ring`, with the request page `page`. The frames are the VM's until it
/// has ended, and the endpoint is removed before.
fn control_endpoint(vm: VmId, ring: PhysAddr, page: PhysAddr) -> Option<Endpoint> {
    let memory = core_memory(ring, PAGE_SIZE);
    let answers = memory.sub(ANSWERS, guest_control::bytes(ANSWER_SLOTS))?;
    let requests = memory.sub(REQUESTS, guest_control::bytes(REQUEST_SLOTS))?;
    let (to, from) = ((&answers, ANSWER_SLOTS), (&requests, REQUEST_SLOTS));
    let mut endpoint = Endpoint::new(Service::Control, Party::Vm(vm), 0, to, from)?;
    endpoint.page = Some(core_memory(page, PAGE_SIZE));
    Some(endpoint)
}

/// Give the page at the guest's `address`, which lies below all images, a frame of zeros.
fn new_page<B: Backend>(
    memory: &mut Memory<B>,
    frames: &mut Frames,
    address: u64,
    part: Part,
) -> Result<PhysAddr, BuildError> {
    let page = u32::try_from(address >> PAGE_SHIFT).map_err(|_| BuildError::NoPage(part))?;
    memory.map_plain(frames, page).map_err(at(part))?.ok_or(BuildError::NoPage(part))
}

/// The first page of a NIC, with its registers. Those of its rings come when somebody stores there.
fn build_nic<B: Backend>(
    memory: &mut Memory<B>,
    frames: &mut Frames,
    mac: [u8; 6],
    rx_slots: u32,
    tx_slots: u32,
) -> Result<(), BuildError> {
    if u64::from(memory.pages()) < (NIC_BASE >> PAGE_SHIFT) + nic::nic_pages(rx_slots, tx_slots) {
        return Err(BuildError::NoPage(Part::Nic));
    }
    let first = new_page(memory, frames, NIC_BASE, Part::Nic)?;
    let [a, b, c, d, e, f] = mac;
    let registers = NicPage {
        mac: [a, b, c, d, e, f, 0, 0],
        rx_slots,
        tx_slots,
        link_up: 1,
        // Some 1,500 bytes.
        max_frame: u32::try_from(nic::MAX_FRAME).unwrap_or(0),
        counters: Default::default(),
        listens: Default::default(),
        max_segments: u32::try_from(nic::MAX_SEGMENTS).unwrap_or(0),
        nic_cuts: 0,
    };
    // It fits into a page, which the abi asserts.
    let _ = core_memory(first, PAGE_SIZE).write(0, registers.as_bytes());
    Ok(())
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
