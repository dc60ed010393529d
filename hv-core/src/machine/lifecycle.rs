//! How VMs come into being and end.

use super::Machine;
use super::exits::Next;
use crate::boot::options::Net;
use crate::components::{Role, Run};
use crate::cpu;
use crate::memory::{Owner, core_memory};
use crate::vms::{Console, Memory, Registers, Seed, State};
use abi::control::{CREATE_ARGS_BYTES, status};
use abi::end::EndReason;
use abi::guest::{BOOT_ARGS_MAX, CONSOLE_SLOTS, MAGIC, NIC_BASE, PAGE_TABLES, RegisterPage};
use abi::limits::{PAGE_SHIFT, PAGE_SIZE};
use abi::message::{BadMessage, Message};
use abi::net::{NetCommand, NetEvent};
use abi::nic::{self, NicPage};
use abi::pager::PagerEvent;
use abi::sched::SchedEvent;
use abi::vm::VmId;
use backend::{Backend, Vcpu, VcpuConfig};
use core::ptr::NonNull;
use zerocopy::{FromZeros, IntoBytes};

/// Frames for metadata: the backend's control structure and the context.
pub(super) const METADATA_FRAMES: u32 = 2;
/// Frames that an admitted VM needs before it has touched anything, beside its NIC: register page, two page tables, four
/// nested tables, and some for its first steps.
const FIRST_FRAMES: u64 = 16;

/// How long the network demultiplexer may take to let go of a VM that has ended, in milliseconds.
const DETACH_MS: u64 = 1000;

/// Present, writable; and for a leaf: 1 GiB (SDM vol. 3, tables 4-15 and 4-16).
const TABLE_ENTRY: u64 = 0x3;
const HUGE_ENTRY: u64 = 0x83;

/// Why a VM ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    reason: EndReason,
    detail: u64,
}

impl End {
    pub(super) fn new(reason: EndReason, detail: u64) -> Self {
        End { reason, detail }
    }
}

impl<B: Backend> Machine<B> {
    /// Make a VM of an image. It waits for the gatekeeper. The error is a [`status`].
    pub(super) fn create(&mut self, image: u16, args: [u8; CREATE_ARGS_BYTES]) -> Result<VmId, u32> {
        let created_tsc = cpu::tsc();
        if self.images.get(image).is_none() {
            return Err(status::NOT_FOUND);
        }
        let id = self.vms.free_slot().ok_or(status::NO_SPACE)?;
        let owner = Owner::VmMeta(id.index);
        if self.frames.free_frames() < METADATA_FRAMES.into() {
            return Err(status::NO_SPACE);
        }
        let control = self.frames.alloc_zeroed(owner, 0).ok_or(status::NO_SPACE)?;
        let context = self.frames.alloc_zeroed(owner, 1).ok_or(status::NO_SPACE)?;
        let ipv4 = ipv4_of(&self.options.net, id.index);
        let seed = Seed { id, image, ipv4, args, control_frame: control, created_tsc };
        // SAFETY: the context frame was just allocated and zeroed for this VM; nothing points to it.
        if !unsafe { self.vms.insert(context, seed) } {
            let _ = self.frames.free(control, owner);
            let _ = self.frames.free(context, owner);
            return Err(status::NO_SPACE);
        }
        self.await_admission(id.index);
        let event = SchedEvent::Arrived { vm: id, frames: self.frames_needed(image), free: self.frames.free_frames() };
        self.tell_scheduler(event, true);
        if self.components.rank_of(Role::Sched).is_none() {
            self.admit(id);
        }
        Ok(id)
    }

    /// Frames that a VM of this image needs to start.
    pub(super) fn frames_needed(&self, image: u16) -> u64 {
        let (rx, tx) = self.images.get(image).map_or((0, 0), |image| (image.entry.rx_slots, image.entry.tx_slots));
        FIRST_FRAMES + nic::nic_pages(rx, tx)
    }

    /// The gatekeeper admits a VM: give it its first pages and let it run.
    pub(super) fn admit(&mut self, id: VmId) {
        if self.vms.by_id(id).is_none_or(|vm| vm.state != State::Waiting) {
            return;
        }
        self.waiting.remove(id.index);
        if self.build(id.index).is_none() {
            self.end_vm(id.index, End::new(EndReason::OutOfMemory, 0));
            return;
        }
        let Some(vm) = self.vms.get(id.index) else { return };
        let (image, pages) = (vm.image, vm.memory.as_ref().map_or(0, Memory::pages));
        self.tell(Role::Pager, &Message::from(PagerEvent::VmStarted { vm: id, image, pages }), false);
        self.attach(id.index);
        self.wake(id.index);
        self.mark = cpu::tsc();
    }

    /// Memory, register page, page tables, NIC pages and processor of a VM. `None` when frames run out; what was built is
    /// the VM's then, and goes with it.
    fn build(&mut self, slot: u16) -> Option<()> {
        let Self { vms, frames, backend, images, hardware, options, .. } = self;
        let vm = vms.get(slot)?;
        let image = images.get(vm.image)?;
        let pages = u32::try_from(image.entry.memory_bytes >> PAGE_SHIFT).ok()?;
        let memory = vm.memory.insert(Memory::new(backend, frames, slot, pages)?);

        let page_of = |address: u64| u32::try_from(address >> PAGE_SHIFT).ok();
        let register_page = memory.map_zero(frames, 0).ok()??;
        let pml4 = memory.map_zero(frames, page_of(PAGE_TABLES)?).ok()??;
        let pdpt = memory.map_zero(frames, page_of(PAGE_TABLES + PAGE_SIZE)?).ok()??;
        core_memory(pml4, PAGE_SIZE).store64(0, (PAGE_TABLES + PAGE_SIZE) | TABLE_ENTRY)?;
        core_memory(pdpt, PAGE_SIZE).store64(0, HUGE_ENTRY)?;

        let (rx_slots, tx_slots) = (image.entry.rx_slots, image.entry.tx_slots);
        let has_nic = rx_slots != 0 && tx_slots != 0;
        if has_nic {
            let first = page_of(NIC_BASE)?;
            for page in first..first + page_of(nic::nic_pages(rx_slots, tx_slots) << PAGE_SHIFT)? {
                memory.map_zero(frames, page).ok()??;
            }
            let [a, b, c, d, e, f] = nic::mac_of(slot);
            let registers = NicPage {
                mac: [a, b, c, d, e, f, 0, 0],
                rx_slots,
                tx_slots,
                link_up: 1,
                max_frame: u32::try_from(nic::MAX_FRAME).ok()?,
                counters: Default::default(),
            };
            core_memory(memory.frame(frames, first)?, PAGE_SIZE).write(0, registers.as_bytes())?;
        }

        let mut boot_args = heapless::String::<BOOT_ARGS_MAX>::new();
        compose_args(&mut boot_args, &image.entry.args, &options.net, vm.ipv4, &vm.args)?;
        let tsc = vm.created_tsc;
        let mut page = RegisterPage::new_zeroed();
        page.magic = MAGIC;
        page.abi_version = abi::ABI_VERSION;
        page.vm_id = vm.id.raw();
        page.memory_bytes = image.entry.memory_bytes;
        page.tsc_hz = hardware.tsc_hz();
        page.ns_per_tick = hardware.ns_per_tick();
        page.start_tsc = tsc;
        page.start_unix_ns = hardware.unix_ns_at(tsc);
        page.generation_id = hardware.random();
        page.boot_args_len = u32::try_from(boot_args.len()).ok()?;
        page.console_slots = CONSOLE_SLOTS;
        page.nic_page = if has_nic { NIC_BASE } else { 0 };
        page.alarm = u64::MAX;
        let registers = Registers::new(register_page)?;
        registers.initialise(&page, boot_args.as_bytes());
        vm.registers = Some(registers);
        vm.console = Some(Console::new(registers.memory()));

        let config = VcpuConfig {
            frame: vm.control_frame.as_u64(),
            frame_pointer: NonNull::new(vm.control_frame.as_ptr())?,
            slot,
            tables: memory.tables(),
            entry: image.start,
            page_tables: PAGE_TABLES,
            argument: abi::guest::REGISTER_PAGE,
            tsc_offset: 0,
        };
        // SAFETY: the processor lies in the VM's context frame and the structure in its control frame; both stay the VM's
        // own until `reclaim`, which is after `release`. The tables live as long.
        if let Err(error) = unsafe { vm.vcpu.init(backend, &config) } {
            log::error!(target: "core", "{}: its processor cannot be set up: {error}", vm.id);
            return None;
        }
        vm.running = true;
        Some(())
    }

    /// Share the NIC pages of a VM with the network demultiplexer and tell it.
    pub(super) fn attach(&mut self, slot: u16) {
        let Self { vms, frames, images, components, .. } = self;
        let Some(vm) = vms.get(slot) else { return };
        let (Some(memory), Some(image)) = (&vm.memory, images.get(vm.image)) else { return };
        let (rx_slots, tx_slots) = (image.entry.rx_slots, image.entry.tx_slots);
        let Some((_, component)) = components.of(Role::Net) else { return };
        if rx_slots == 0 || tx_slots == 0 || vm.attached || matches!(component.run, Run::Dead { .. }) {
            return;
        }
        for index in 0..nic::nic_pages(rx_slots, tx_slots) {
            let page = u32::try_from((NIC_BASE >> PAGE_SHIFT) + index).unwrap_or(u32::MAX);
            let mapped =
                memory.frame(frames, page).is_some_and(|frame| component.space.map_nic(frames, slot, index, frame));
            if !mapped {
                log::error!(target: "core", "{}: no frame for the demultiplexer's window; the VM runs without a NIC", vm.id);
                return;
            }
        }
        vm.attached = true;
        let event = NetEvent::Attach { vm: vm.id, ipv4: vm.ipv4, rx_slots, tx_slots };
        self.tell(Role::Net, &Message::from(event), true);
    }

    /// Carry out a command of the network demultiplexer.
    pub(super) fn net_command(&mut self, message: &Message) -> Result<(), BadMessage> {
        let NetCommand::Detached { vm } = NetCommand::try_from(message)?;
        if self.vms.by_id(vm).is_some_and(|vm| vm.state == State::Ending && vm.attached) {
            self.detach(vm.index);
            self.reclaim(vm.index);
        }
        Ok(())
    }

    /// Unmap a VM's NIC pages from the demultiplexer.
    fn detach(&mut self, slot: u16) {
        let Self { vms, images, components, .. } = self;
        let Some(vm) = vms.get(slot) else { return };
        vm.attached = false;
        let Some(image) = images.get(vm.image) else { return };
        if let Some((_, component)) = components.of(Role::Net) {
            for index in 0..nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots) {
                component.space.unmap_nic(slot, index);
            }
        }
    }

    /// End a VM: it does not run again, and its memory is freed as soon as nobody shares it.
    pub(super) fn end_vm(&mut self, slot: u16, end: End) -> Next {
        let Some(vm) = self.vms.get(slot) else { return Next::Leave };
        if vm.state == State::Ending {
            return Next::Leave;
        }
        let id = vm.id;
        if let Some(console) = &mut vm.console {
            console.drain(id, cpu::tsc(), self.hardware.tsc_hz());
        }
        let rip = if vm.running { vm.vcpu.position(&mut self.backend).rip } else { 0 };
        if vm.running {
            vm.vcpu.release(&mut self.backend);
            vm.running = false;
        }
        vm.state = State::Ending;
        let attached = vm.attached;
        if let Some(left_out) = self.guest_log.allow(cpu::tsc(), self.hardware.tsc_hz())
            && crate::log::has_room()
        {
            let (reason, detail) = (end.reason.text(), end.detail);
            log::info!(target: "core", "{id} ended: {reason} (detail {detail:#x}, rip {rip:#x}; {left_out} such lines left out)");
        }
        self.ready.remove(slot);
        self.waiting.remove(slot);
        // When the demultiplexer must have let go of it.
        let patience = self.hardware.tsc_hz() / 1000 * DETACH_MS;
        self.timers.set(slot, if attached { cpu::tsc().saturating_add(patience) } else { u64::MAX });
        if self.turn.is_some_and(|turn| turn.vm == id) {
            self.turn = None;
        }
        if attached {
            self.tell(Role::Net, &Message::from(NetEvent::Detach { vm: id }), true);
        } else {
            self.reclaim(slot);
        }
        Next::Leave
    }

    /// Free what an ended VM had. Nobody shares its pages any more.
    pub(super) fn reclaim(&mut self, slot: u16) {
        let Some(vm) = self.vms.get(slot) else { return };
        let (id, control) = (vm.id, vm.control_frame);
        self.timers.set(slot, u64::MAX);
        if let Some(memory) = vm.memory.take() {
            self.backend.flush(memory.tables());
            memory.release(&mut self.frames);
        }
        let owner = Owner::VmMeta(slot);
        let _ = self.frames.free(control, owner);
        if let Some(context) = self.vms.remove(slot) {
            let _ = self.frames.free(context, owner);
        }
        self.tell(Role::Pager, &Message::from(PagerEvent::VmEnded { vm: id }), false);
        let free = self.frames.free_frames();
        self.tell_scheduler(SchedEvent::Ended { vm: id, free }, true);
        self.mark = cpu::tsc();
    }

    /// The demultiplexer is gone, and with it whatever it shared: ended VMs need not wait for it.
    pub(super) fn forget_net(&mut self) {
        for slot in 0..u16::try_from(self.vms.len()).unwrap_or(u16::MAX) {
            let Some(vm) = self.vms.get(slot) else { continue };
            if vm.attached {
                let ending = vm.state == State::Ending;
                self.detach(slot);
                if ending {
                    self.reclaim(slot);
                }
            }
        }
    }
}

/// Boot arguments: the image's, the address, the extra ones. `None` when they do not fit.
fn compose_args(
    to: &mut heapless::String<BOOT_ARGS_MAX>,
    image: &[u8],
    net: &Net,
    ipv4: u32,
    extra: &[u8],
) -> Option<()> {
    to.push_str(text(image)).ok()?;
    if !to.is_empty() {
        to.push(' ').ok()?;
    }
    match *net {
        Net::Static { prefix, gateway, .. } => {
            to.push_str("ip=").ok()?;
            push_address(to, ipv4)?;
            to.push('/').ok()?;
            push_decimal(to, prefix)?;
            if let Some(gateway) = gateway {
                to.push_str(" gw=").ok()?;
                push_address(to, gateway)?;
            }
        }
        Net::Dhcp => to.push_str("ip=dhcp").ok()?,
    }
    let extra = text(extra);
    if !extra.is_empty() {
        to.push(' ').ok()?;
        to.push_str(extra).ok()?;
    }
    Some(())
}

/// An IPv4 address with its dots. `core::fmt` takes ten times as long, which would be a tenth of a VM's creation.
fn push_address(to: &mut heapless::String<BOOT_ARGS_MAX>, address: u32) -> Option<()> {
    for (i, byte) in address.to_be_bytes().into_iter().enumerate() {
        if i != 0 {
            to.push('.').ok()?;
        }
        push_decimal(to, byte)?;
    }
    Some(())
}

fn push_decimal(to: &mut heapless::String<BOOT_ARGS_MAX>, number: u8) -> Option<()> {
    for (least, divisor) in [(100, 100), (10, 10), (0, 1)] {
        if number >= least {
            to.push(char::from(b'0' + number / divisor % 10)).ok()?;
        }
    }
    Some(())
}

/// The address of the VM in a slot, 0 when it asks DHCP.
fn ipv4_of(net: &Net, slot: u16) -> u32 {
    match net {
        Net::Static { address, .. } => address.wrapping_add(slot.into()),
        Net::Dhcp => 0,
    }
}

/// Zero-padded bytes as text; bytes that are no text count as none.
fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_arguments_come_in_order() {
        let lan = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: Some(0x0a00_0202) };
        let mut args = heapless::String::new();
        compose_args(&mut args, b"workers=2\0\0", &lan, ipv4_of(&lan, 1), b"crime=hlt\0").expect("fits");
        assert_eq!(args.as_str(), "workers=2 ip=10.0.2.17/24 gw=10.0.2.2 crime=hlt");
        args.clear();
        compose_args(&mut args, b"\0", &Net::Dhcp, 0, b"\0").expect("fits");
        assert_eq!(args.as_str(), "ip=dhcp");
        args.clear();
        push_address(&mut args, u32::from(core::net::Ipv4Addr::new(255, 105, 0, 200))).expect("fits");
        assert_eq!(args.as_str(), "255.105.0.200");
    }
}
