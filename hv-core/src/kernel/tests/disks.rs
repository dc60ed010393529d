//! Virtual disks: who shares a VM's disk pages, from its admission to its burial, and across the striper's restarts.

use super::machine::{Machine, WITH_NIC, WITHOUT_NIC};
use super::roles::Role as FakeRole;
use crate::component::{Death, Run};
use crate::log::capture::{heard_of, listen};
use crate::memory::core_memory;
use crate::vm::{Devices, End, Queue};
use abi::attachment::Attachment;
use abi::charges::DiskUse;
use abi::component::{ERROR_ARGUMENT, layout, syscall};
use abi::control::{ControlReply, ControlRequest, status};
use abi::disk_service::{DiskCommand, no_disk};
use abi::end::EndReason;
use abi::guest::pending;
use abi::guest_disk::{COMPLETIONS, DISK_BASE, PAGES, REQUESTS};
use abi::limits::PAGE_SIZE;
use abi::nic::WINDOW_STRIDE;
use abi::ring::EPOCH;
use abi::service::Service;
use abi::vm::{Slot, VmId};

fn attachment(text: &str) -> Attachment {
    Attachment::parse(text).expect("a name")
}

impl Machine<true> {
    fn create_with_disk(&mut self, disk: &str) -> VmId {
        self.next_disk = attachment(disk);
        let vm = self.create(WITH_NIC);
        self.settle_again();
        vm
    }

    /// Whether the striper, when it is told to, lets go of nobody.
    fn let_disk_withhold(&mut self, withholds: bool) {
        let rank = self.rank(Service::Disk);
        if let FakeRole::Disk(disk) = &mut self.hardware.borrow_mut().components[rank].role {
            disk.withholds = withholds;
        }
    }

    /// Who is attached at the striper, with what, and whether it was before.
    fn attached(&self) -> Vec<(VmId, Attachment, bool)> {
        let hardware = self.hardware.borrow();
        let FakeRole::Disk(disk) = &hardware.components[self.rank(Service::Disk)].role else { panic!("another one") };
        assert!(disk.told, "it was told of all");
        disk.attached.iter().map(|(&vm, &(_, attachment, again))| (vm, attachment, again)).collect()
    }

    /// Pages of this VM that the striper sees.
    fn window(&mut self, vm: VmId) -> Vec<bool> {
        let rank = self.rank(Service::Disk);
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.kernel;
        let vm = vms.by_id(vm).expect("it lives");
        let (memory, seat) = (vm.life.memory().expect("it has some"), vm.seat);
        (0..PAGES + 1)
            .map(|page| {
                let at = layout::VM_WINDOW + u64::from(seat.number()) * WINDOW_STRIDE + page * PAGE_SIZE;
                let seen = cpu.components.list[rank].space.tables().walk(at).map(|leaf| leaf.frame);
                let number = u32::try_from(DISK_BASE / PAGE_SIZE + page).expect("a page");
                assert!(seen.is_none() || seen == memory.frame(&mut cpu.frames, number), "page {page} is another one");
                seen.is_some()
            })
            .collect()
    }

    fn epochs(&mut self, vm: VmId) -> [u32; 2] {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut self.kernel;
        let memory = vms.by_id(vm).and_then(|vm| vm.life.memory()).expect("it lives");
        let number = u32::try_from(DISK_BASE / PAGE_SIZE).expect("a page");
        let page = core_memory(memory.frame(&mut cpu.frames, number).expect("there from the start"), PAGE_SIZE);
        [REQUESTS, COMPLETIONS].map(|ring| page.read32(ring + EPOCH).expect("in the page"))
    }

    fn pending(&mut self, vm: VmId) -> u64 {
        let vm = self.kernel.vms.by_id(vm).expect("it lives");
        vm.life.body().expect("admitted").registers.pending()
    }
}

fn machine() -> Machine<true> {
    let mut machine = Machine::with_disks(4096);
    machine.settle(1000);
    machine
}

#[test]
fn a_vm_with_a_disk_shares_its_pages_and_one_without_has_none() {
    let mut machine = machine();
    let vm = machine.create_with_disk("web:ro");
    assert_eq!(machine.attached(), [(vm, attachment("web:ro"), false)]);
    let all = usize::try_from(PAGES).expect("few");
    assert_eq!(machine.window(vm), [vec![true; all], vec![false]].concat());
    let shared = |machine: &mut Machine<true>, vm| {
        machine.kernel.vms.by_id(vm).map(|vm| vm.life.shared().contains(Devices::DISK))
    };
    assert_eq!(shared(&mut machine, vm), Some(true));
    let other = machine.create(WITHOUT_NIC);
    machine.settle_again();
    assert_eq!((shared(&mut machine, other), machine.attached().len()), (Some(false), 1));
    assert_eq!(machine.window(other), vec![false; all + 1]);
    let held = |machine: &mut Machine<true>, vm| {
        machine
            .kernel
            .vms
            .by_id(vm)
            .and_then(|vm| vm.life.memory())
            .map_or(0, |memory| memory.reservation().claim().reserve)
    };
    assert_eq!(held(&mut machine, vm), held(&mut machine, other) + u32::try_from(PAGES).expect("few"));
    machine.audit();
}

#[test]
fn only_the_striper_raises_for_a_disk_and_only_for_its_vms() {
    let mut machine = machine();
    let (vm, other) = (machine.create_with_disk("log"), machine.create(WITH_NIC));
    machine.settle_again();
    let mut raise = |service, vm: VmId, bits| machine.ask(service, [syscall::RAISE, vm.raw(), bits, 0]);
    assert_eq!(raise(Service::Disk, vm, pending::DISK), 0);
    assert_eq!(raise(Service::Disk, other, pending::DISK), ERROR_ARGUMENT);
    assert_eq!(raise(Service::Net, vm, pending::DISK), ERROR_ARGUMENT);
    assert_eq!(raise(Service::Disk, VmId { generation: 9, ..vm }, pending::DISK), ERROR_ARGUMENT);
    assert_eq!((machine.pending(vm) & pending::DISK, machine.pending(other) & pending::DISK), (pending::DISK, 0));
}

#[test]
fn a_vm_that_is_refused_ends_and_leaves_nothing() {
    let mut machine = machine();
    let free = machine.kernel.cpu.frames.free_frames();
    let vm = machine.create_with_disk("log");
    machine.end(vm);
    machine.settle_again();
    let tables = free - machine.kernel.cpu.frames.free_frames();
    let vm = machine.create_with_disk("missing");
    assert!(!machine.vms().contains(&vm) && machine.attached().is_empty());
    assert_eq!(free - machine.kernel.cpu.frames.free_frames(), tables, "nothing but the window's tables");
    machine.audit();
    // Where nobody serves disks.
    let mut machine = Machine::<true>::new(4096);
    machine.settle(1000);
    machine.next_disk = attachment("log");
    let vm = machine.create(WITH_NIC);
    machine.settle_again();
    assert!(!machine.vms().contains(&vm));
    machine.audit();
}

#[test]
fn the_successor_is_told_of_all_and_the_rings_begin_anew() {
    let mut machine = machine();
    let vms = [machine.create_with_disk("web:ro"), machine.create_with_disk("log")];
    let before = vms.map(|vm| machine.epochs(vm));
    for _ in 0..3 {
        let rank = machine.rank(Service::Disk);
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.settle_again();
        let expected: Vec<_> =
            vms.into_iter().zip(["web:ro", "log"]).map(|(vm, disk)| (vm, attachment(disk), true)).collect();
        assert_eq!(machine.attached(), expected);
        assert!(machine.window(vms[0])[..9].iter().all(|&seen| seen));
    }
    let after = vms.map(|vm| machine.epochs(vm));
    assert!((0..2).all(|vm| (0..2).all(|ring| before[vm][ring] != after[vm][ring])), "{before:?} {after:?}");
    // One that is new to it.
    let vm = machine.create_with_disk("other");
    assert!(machine.attached().contains(&(vm, attachment("other"), false)));
    machine.audit();
}

#[test]
fn whose_virtual_disk_is_whose_is_told() {
    let mut machine = machine();
    let vm = machine.create_with_disk("log");
    let Attachment { disk, mode, rate } = attachment("log");
    let told = ControlReply::DiskOf { vm, disk, mode, rate, attached: true, used: DiskUse::NONE };
    assert_eq!(machine.request(ControlRequest::DiskOf { slot: vm.slot }), [told]);
    let nobody = ControlReply::Done { status: status::NOT_FOUND, value: 0 };
    assert_eq!(machine.request(ControlRequest::DiskOf { slot: Slot::new(7) }), [nobody]);
}

#[test]
fn a_vm_is_charged_with_what_its_own_striper_says() {
    let mut machine = machine();
    let (vm, other) = (machine.create_with_disk("log"), machine.create(WITH_NIC));
    machine.settle_again();
    let [striper, stranger] = [Service::Disk, Service::Net].map(|of| machine.kernel.cpu.endpoints.first(of));
    let stale = VmId { generation: vm.generation + 1, ..vm };
    let done = DiskUse { requests: u32::MAX, blocks: 1 };
    for (from, vm) in [(striper, vm), (striper, vm), (stranger, vm), (striper, stale), (striper, other)] {
        assert_eq!(machine.kernel.disk_command(from, &DiskCommand::Used { vm, done }.into()), Ok(()));
    }
    let used = |machine: &mut Machine<true>, vm: VmId| machine.kernel.vms.disk_use(vm.slot);
    assert_eq!(used(&mut machine, vm), DiskUse { requests: u32::MAX - 1, blocks: 2 });
    assert_eq!(used(&mut machine, other), DiskUse::NONE, "it has no disk");
    // Who comes into the slot next begins with nothing.
    machine.end(vm);
    machine.settle_again();
    let next = machine.create_with_disk("log");
    assert_eq!((next.slot, used(&mut machine, next)), (vm.slot, DiskUse::NONE));
    machine.audit();
}

#[test]
fn a_striper_that_withholds_is_found_out_where_nothing_else_happens() {
    let mut machine = machine();
    let vm = machine.create_with_disk("log");
    machine.let_disk_withhold(true);
    listen();
    machine.end(vm);
    machine.settle_again();
    let said = heard_of("does not let go");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(machine.vms().is_empty());
    machine.audit();
}

#[test]
fn each_vm_is_let_go_of_in_a_time_of_its_own() {
    let mut machine = machine();
    let vms = ["one", "two"].map(|disk| machine.create_with_disk(disk));
    machine.let_disk_withhold(true);
    let disk = machine.kernel.cpu.endpoints.first(Service::Disk);
    let rank = machine.rank(Service::Disk);
    let patience = machine.kernel.cpu.time.milliseconds(1_000);
    for vm in vms {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.end(vms.by_id(vm).expect("it lives"), End::new(EndReason::Destroyed, 0));
    }
    while machine.queued(Queue::Leaving(disk)).len() < 2 {
        machine.step();
    }
    for vm in vms {
        // Most of the time that it has, of which the other one's is no part.
        let until = machine.wires.now() + patience / 10 * 7;
        while machine.wires.now() < until {
            machine.step();
        }
        let run = machine.kernel.cpu.components.list[rank].run;
        assert!(!matches!(run, Run::Condemned(_)), "{run:?}");
        let first = machine.queued(Queue::Leaving(disk))[0];
        let vm = vms.into_iter().find(|vm| vm.slot.number() == first).unwrap_or(vm);
        assert_eq!(machine.kernel.disk_command(disk, &DiskCommand::Detached { vm }.into()), Ok(()));
    }
    machine.let_disk_withhold(false);
    machine.settle_again();
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 1);
    assert!(machine.vms().is_empty());
}

#[test]
fn both_who_share_its_pages_let_go_before_a_vm_is_buried() {
    let mut machine = machine();
    let vm = machine.create_with_disk("log");
    let disk = machine.kernel.cpu.endpoints.first(Service::Disk);
    machine.let_disk_withhold(true);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.end(vms.by_id(vm).expect("it lives"), End::new(EndReason::Destroyed, 0));
    for _ in 0..50 {
        if !machine.queued(Queue::Leaving(disk)).is_empty() {
            break;
        }
        machine.step();
    }
    // The demultiplexer has; the striper does not.
    let shared = machine.kernel.vms.by_id(vm).map(|vm| vm.life.shared());
    assert_eq!((shared, machine.queued(Queue::Leaving(disk))), (Some(Devices::DISK), vec![vm.slot.number()]));
    // What it says of others is not heard, and that it has let go of them neither.
    let other = machine.create(WITH_NIC);
    let refusal = DiskCommand::Refused { vm: other, why: no_disk::NO_SET };
    assert_eq!(machine.kernel.disk_command(disk, &refusal.into()), Ok(()));
    assert!(machine.kernel.disk_command(disk, &abi::message::Message::new(0x7ff, [])).is_err());
    assert_eq!(machine.condemned(Service::Disk), Death::DetachTimeout(vm));
    machine.let_disk_withhold(false);
    machine.settle_again();
    assert!(!machine.vms().contains(&vm) && machine.vms().contains(&other));
    machine.audit();
}

#[test]
fn a_striper_that_says_too_early_that_it_has_let_go_is_not_heard() {
    let mut machine = machine();
    let vm = machine.create_with_disk("log");
    let disk = machine.kernel.cpu.endpoints.first(Service::Disk);
    assert_eq!(machine.kernel.disk_command(disk, &DiskCommand::Detached { vm }.into()), Ok(()));
    assert!(machine.window(vm)[0]);
    // While the demultiplexer has still to let go.
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.end(vms.by_id(vm).expect("it lives"), End::new(EndReason::Destroyed, 0));
    assert_eq!(machine.kernel.disk_command(disk, &DiskCommand::Detached { vm }.into()), Ok(()));
    assert!(machine.window(vm)[0]);
    machine.settle_again();
    assert!(!machine.vms().contains(&vm));
    machine.audit();
}
