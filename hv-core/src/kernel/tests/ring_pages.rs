//! Pages of rings: they come when the demultiplexer or the guest touches them, and go when the demultiplexer says so.

use super::guest::{FIRST, field};
use super::machine::{Machine, WITH_NIC, WITHOUT_NIC};
use crate::component::Death;
use crate::kernel::Kernel;
use crate::memory::{PhysAddr, core_memory};
use crate::vm::State;
use abi::component::{ERROR_ARGUMENT, ERROR_AUTHORITY, ERROR_BUSY, layout, syscall};
use abi::guest::{ERROR_ARGUMENT as GUEST_ARGUMENT, NIC_BASE, hypercall};
use abi::limits::PAGE_SIZE;
use abi::pager::Access;
use abi::service::Service;
use abi::vm::VmId;
use backend::fake::Step;

/// The guest's page before those of its rings. There are two: 32 slots each.
const NIC: u32 = {
    // A few pages.
    #[allow(clippy::cast_possible_truncation)]
    let page = (NIC_BASE / PAGE_SIZE) as u32;
    page
};

impl Machine<true> {
    fn ring_page(&mut self, vm: VmId, page: u64) -> u64 {
        self.ask(Service::Net, [syscall::RING_PAGE, vm.raw(), page, 0])
    }

    fn ring_return(&mut self, vm: VmId, pages: u64) -> u64 {
        self.ask(Service::Net, [syscall::RING_RETURN, vm.raw(), pages, 0])
    }

    /// Where the demultiplexer and the guest see pages 0 to 2 of the NIC.
    fn nic_frames(&mut self, vm: VmId) -> [(Option<PhysAddr>, Option<PhysAddr>); 3] {
        let rank = self.rank(Service::Net);
        let Kernel { vms, cpu, .. } = &mut self.kernel;
        let memory = vms.by_id(vm).and_then(|vm| vm.life.memory()).expect("it has memory");
        let space = &cpu.components.list[rank].space;
        [0, 1, 2].map(|page: u32| {
            let at = layout::VM_WINDOW + u64::from(page) * PAGE_SIZE;
            (space.tables().walk(at).map(|leaf| leaf.frame), memory.frame(&mut cpu.frames, NIC + page))
        })
    }

    fn free(&self) -> u64 {
        self.kernel.cpu.frames.free_frames()
    }
}

fn idle() -> (Machine<true>, VmId) {
    let (machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    assert_eq!(vm, FIRST);
    (machine, vm)
}

#[test]
fn a_page_comes_when_the_demultiplexer_asks_for_it() {
    let (mut machine, vm) = idle();
    assert_eq!(
        machine.nic_frames(vm).map(|(window, guest)| (window.is_some(), guest.is_some()))[1..],
        [(false, false); 2]
    );
    let free = machine.free();
    assert_eq!(machine.ring_page(vm, 2), 0);
    let [_, first, (window, guest)] = machine.nic_frames(vm);
    assert_eq!((first, window), ((None, None), guest));
    let frame = guest.expect("it is there");
    assert_eq!(machine.free(), free - 1);
    let mut bytes = [1; 4096];
    core_memory(frame, PAGE_SIZE).read(0, &mut bytes).expect("a page");
    assert_eq!(bytes, [0; 4096]);
    // Asked again, it is the same one.
    assert_eq!(machine.ring_page(vm, 2), 0);
    assert_eq!((machine.nic_frames(vm)[2], machine.free()), ((guest, guest), free - 1));
    machine.audit();
}

#[test]
fn a_page_that_the_guest_has_stored_to_is_shown_with_what_is_in_it() {
    let (mut machine, vm) = idle();
    let address = u64::from(NIC + 2) * PAGE_SIZE;
    machine.go_on(&[Step::Touch { page: NIC + 2, access: Access::Write }, Step::Poke { address, value: 77 }]);
    machine.settle(1000);
    let (window, guest) = machine.nic_frames(vm)[2];
    assert!(window.is_none() && guest.is_some());
    assert_eq!(machine.ring_page(vm, 2), 0);
    assert_eq!(machine.nic_frames(vm)[2], (guest, guest));
    assert_eq!(machine.word(vm, address), 77);
    machine.audit();
}

#[test]
fn pages_that_a_vm_does_not_have_are_refused() {
    let (mut machine, vm) = idle();
    let other = machine.create(WITHOUT_NIC);
    machine.settle(1000);
    let before = machine.frames_by_owner();
    for page in [0, 3, 15, 16, 64, u64::MAX] {
        assert_eq!(machine.ring_page(vm, page), ERROR_ARGUMENT, "{page}");
    }
    for pages in [1, 0b1000, 0b1011, 1 << 15, 1 << 63, u64::MAX] {
        assert_eq!(machine.ring_return(vm, pages), ERROR_ARGUMENT, "{pages:#x}");
    }
    for vm in [other.raw(), VmId::new(0, 2).raw(), VmId::new(3, 1).raw(), u64::MAX] {
        for call in [syscall::RING_PAGE, syscall::RING_RETURN] {
            assert_eq!(machine.ask(Service::Net, [call, vm, 2, 0]), ERROR_ARGUMENT, "{vm:#x}");
        }
    }
    for (service, call) in [(Service::Pager, syscall::RING_PAGE), (Service::Control, syscall::RING_RETURN)] {
        assert_eq!(machine.ask(service, [call, vm.raw(), 2, 0]), ERROR_AUTHORITY);
    }
    assert_eq!(machine.frames_by_owner(), before);
    machine.audit();
}

#[test]
fn without_a_frame_a_page_is_refused_for_now() {
    let (mut machine, vm) = idle();
    let heap = [60, 61, 62].map(|page| Step::Poke { address: page * PAGE_SIZE, value: 1 });
    machine.go_on(&heap);
    machine.settle(1000);
    // The guest has its reserve.
    let hoard = machine.hoard(0);
    assert_eq!(machine.ring_page(vm, 1), ERROR_BUSY);
    machine.audit();
    machine.unhoard(hoard);
    assert_eq!(machine.ring_page(vm, 1), 0);
    machine.audit();
}

#[test]
fn pages_go_when_the_vm_idles_and_read_as_zeros_afterwards() {
    let (mut machine, vm) = idle();
    let free = machine.free();
    let address = u64::from(NIC + 1) * PAGE_SIZE;
    assert_eq!((machine.ring_page(vm, 1), machine.ring_page(vm, 2)), (0, 0));
    machine.go_on(&[Step::Poke { address, value: 77 }]);
    machine.settle(1000);
    let rank = machine.rank(Service::Net);
    let takings = |machine: &mut Machine<true>| machine.word(vm, field!(may_go_out)) >> 32;
    let before = takings(&mut machine);
    assert_eq!(machine.ring_return(vm, 0b10), 0);
    assert_eq!(takings(&mut machine), before + 1, "a guest that has made sure of the page must do so again");
    assert!(machine.kernel.cpu.components.list[rank].space.is_stale(), "the demultiplexer would still see it");
    assert_eq!(machine.nic_frames(vm)[1], (None, None));
    assert!(machine.nic_frames(vm)[2].0.is_some());
    // A page that is not there is no mistake.
    assert_eq!((machine.ring_return(vm, 0b110), machine.ring_return(vm, 0)), (0, 0));
    assert_eq!(takings(&mut machine), before + 2, "nothing was taken the last time");
    assert_eq!(machine.free(), free);
    machine.audit();
    machine.go_on(&[Step::Touch { page: NIC + 1, access: Access::Read }]);
    machine.settle(1000);
    assert_eq!(machine.word(vm, address), 0);
    machine.audit();
}

/// What the guest has stored may not be shown yet.
#[test]
fn pages_stay_while_the_vm_does_not_idle() {
    let (mut machine, vm) = idle();
    assert_eq!(machine.ring_page(vm, 1), 0);
    let before = machine.nic_frames(vm);
    assert!(machine.kernel.raise(vm, u64::MAX));
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let guest = vms.by_id(vm).expect("it lives");
    if guest.life.is_idle() {
        cpu.now_ready(guest);
        guest.life.wake();
    }
    assert_eq!(guest.life.state(), State::Ready);
    assert_eq!(machine.ring_return(vm, 0b110), ERROR_BUSY);
    assert_eq!(machine.nic_frames(vm), before);
}

/// Whatever the guest does with its pages, the demultiplexer's window stays as it is.
#[test]
fn a_guest_cannot_give_back_a_page_of_a_ring() {
    let (mut machine, vm) = idle();
    assert_eq!(machine.ring_page(vm, 1), 0);
    let before = machine.nic_frames(vm);
    let call = Step::Hypercall { number: hypercall::GIVE_BACK, a: u64::from(NIC + 1), b: 1 };
    machine.go_on(&[call, super::guest::keep(0)]);
    machine.settle(1000);
    assert_eq!((machine.kept(1), machine.nic_frames(vm)), (vec![GUEST_ARGUMENT], before));
}

#[test]
fn the_next_demultiplexer_asks_anew_and_finds_what_the_guest_has_stored() {
    let (mut machine, vm) = idle();
    let address = u64::from(NIC + 2) * PAGE_SIZE;
    assert_eq!((machine.ring_page(vm, 1), machine.ring_page(vm, 2)), (0, 0));
    machine.go_on(&[Step::Poke { address, value: 77 }]);
    machine.settle(1000);
    let before = machine.nic_frames(vm);
    let rank = machine.rank(Service::Net);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.settle_again();
    assert_eq!(machine.nic_frames(vm)[2], (None, before[2].1));
    assert_eq!(machine.ring_page(vm, 2), 0);
    assert_eq!(machine.nic_frames(vm)[2], before[2]);
    assert_eq!(machine.word(vm, address), 77);
    machine.audit();
}

#[test]
fn the_pages_of_a_vm_that_ends_go_when_it_is_detached() {
    let (mut machine, vm) = idle();
    assert_eq!((machine.ring_page(vm, 1), machine.ring_page(vm, 2)), (0, 0));
    machine.go_on(&[Step::Hypercall { number: hypercall::EXIT, a: 0, b: 0 }]);
    machine.settle(1000);
    assert_eq!(machine.vms(), []);
    assert_eq!(machine.ring_page(vm, 1), ERROR_ARGUMENT);
    assert_eq!(machine.ring_return(vm, 0b10), ERROR_ARGUMENT);
    machine.audit();
    assert_eq!(machine.kernel.cpu.frames.count_of(crate::memory::OwnerClass::VmMemory), 0);
}
