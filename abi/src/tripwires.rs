//! A second copy of the numbers that guests, components and scripts outside this repository rely on.
//!
//! When a test here fails: do not just update the expected value. Every module and guest that was built before breaks;
//! raise [`crate::ABI_VERSION`], say so in CHANGELOG.md, then change both places.

use crate::*;
use core::mem::{offset_of, size_of};

#[test]
fn version() {
    assert_eq!(ABI_VERSION, 2);
}

#[test]
fn guest_numbers() {
    use guest::hypercall::*;
    assert_eq!(
        [NOP, IDLE, EXIT, KICK, ALARM, UPCALL_RETURN, FAULT_RETURN, GIVE_BACK, TAKE],
        [0, 1, 2, 3, 4, 5, 6, 7, 8]
    );
    assert_eq!(guest::TAKE_MAX, 64);
    use guest::pending::{ALARM as DUE, CONSOLE_INPUT, CONTROL, DISK, IDENTITY, NIC, SHUTDOWN, WATCHED};
    assert_eq!([DUE, NIC, SHUTDOWN, IDENTITY, CONSOLE_INPUT, DISK, CONTROL, WATCHED], [1, 2, 4, 8, 16, 32, 64, 128]);
    assert_eq!((guest::CONSOLE_RING, guest::CONSOLE_SLOTS), (2048, 16));
    assert_eq!((guest::CONSOLE_INPUT_RING, guest::CONSOLE_INPUT_SLOTS), (3328, 8));
    assert_eq!([guest::device::NIC, guest::device::CONSOLE, guest::device::DISK, guest::device::CONTROL], [0, 1, 2, 3]);
    use guest_control::*;
    assert_eq!((CONTROL_PAGE, REQUEST_PAGE, ANSWERS, REQUESTS), (0x1_e000, 0x1_f000, 0, 2304));
    assert_eq!((ANSWER_SLOTS, REQUEST_SLOTS, ROOM), (32, 16, 16));
    assert_eq!((guest_disk::DISK_BASE, guest_disk::SLOTS, guest_disk::PAGES), (0x1_4000, 8, 9));
    assert_eq!((guest_disk::REQUESTS, guest_disk::REQUEST_SLOTS), (256, 16));
    assert_eq!((guest_disk::COMPLETIONS, guest_disk::COMPLETION_SLOTS), (1536, 16));
    assert_eq!((guest_disk::state::COMING, guest_disk::state::READY, guest_disk::flags::READ_ONLY), (0, 1, 1));
    use guest_disk::status::{BAD_REQUEST, CORRUPT, DONE, FAILED, OUT_OF_RANGE, READ_ONLY, ZEROS};
    assert_eq!([DONE, ZEROS, CORRUPT, FAILED, OUT_OF_RANGE, READ_ONLY, BAD_REQUEST], [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(
        [guest::REGISTER_PAGE, guest::PAGE_TABLES, guest::NIC_BASE, guest::IMAGE_BASE],
        [0x1000, 0x2000, 0x4000, 0x2_0000]
    );
    assert_eq!(guest::MAGIC, 0x3152_454b_4152_4f46);
    use guest::{FAULT_ADDRESS, FAULT_GUARD, FAULT_NULL, FAULT_REFUSED, FAULT_RIGHTS};
    assert_eq!(
        [FAULT_REFUSED, FAULT_ADDRESS, FAULT_NULL, FAULT_GUARD, FAULT_RIGHTS],
        [0x100, 0x101, 0x102, 0x103, 0x104]
    );
    assert_eq!([guest::access::READ, guest::access::WRITE, guest::access::EXECUTE], [0, 1, 2]);
}

#[test]
fn shares() {
    use share::*;
    assert_eq!((WEIGHT, WEIGHT_MAX), (100, 10_000));
    assert_eq!((UNLIMITED, BURST, BURST_MIN), (0xffff_ffff, 65_536, 1514));
}

#[test]
fn component_numbers() {
    use component::syscall::*;
    assert_eq!([NOP, WAIT, NOTIFY, LOG, IRQ_ACK, RAISE, PORT_IN, PORT_OUT, EXIT], [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(size_of::<component::ComponentInfo>(), 2016);
    assert_eq!((offset_of!(component::RingInfo, service), offset_of!(component::RingInfo, data_pages)), (24, 28));
    assert_eq!((size_of::<component::RingInfo>(), size_of::<component::DeviceInfo>()), (32, 320));
}

#[test]
fn services() {
    use service::Service;
    assert_eq!(
        Service::ALL.map(|service| (service.raw(), service.name())),
        [(1, "net"), (2, "pager"), (3, "plan"), (4, "control"), (5, "swap"), (6, "disk")]
    );
    for service in Service::ALL {
        assert_eq!(Service::from_raw(service.raw()), Some(service));
    }
    assert_eq!([0, 7, u32::MAX].map(Service::from_raw), [None; 3]);
    assert_eq!(Service::ALL.map(Service::authority), [3, 4, 0, 0, 8, 3]);
    assert_eq!(Service::ALL.map(Service::is_shared), [true, true, false, true, false, false]);
    assert_eq!((component::authority::RAISE, component::authority::VM_WINDOW), (1, 2));
    assert_eq!((component::authority::SWAP_WINDOW, component::authority::SWAP_PASSES), (8, 16));
}

#[test]
fn layouts() {
    assert_eq!(offset_of!(guest::RegisterPage, sequence), 12);
    assert_eq!(offset_of!(guest::RegisterPage, clock_tsc), 80);
    assert_eq!(offset_of!(guest::RegisterPage, fault), 256);
    assert_eq!(offset_of!(ring::RingHeader, head), 64);
    assert_eq!(offset_of!(ring::RingHeader, epoch), 128);
    assert_eq!(size_of::<message::Message>(), 64);
    assert_eq!(size_of::<manifest::Component>(), 320);
    assert_eq!((offset_of!(manifest::Component, flags), manifest::component_flags::OPTIONAL), (312, 1));
    assert_eq!(size_of::<manifest::Image>(), 232);
    assert_eq!((offset_of!(manifest::Ring, data_pages), size_of::<manifest::Ring>()), (32, 40));
    assert_eq!(nic::tx_slots_offset(256), 0x5000);
    assert_eq!((offset_of!(nic::NicPage, listens), size_of::<nic::Listens>()), (96, 72));
    assert_eq!((offset_of!(nic::NicPage, max_segments), offset_of!(nic::NicPage, nic_cuts)), (168, 172));
    assert_eq!((nic::MAX_SEGMENTS, nic::MIN_SEGMENT, ring::PACKET_SEGMENTS), (8_184, 536, 3));
    assert_eq!(offset_of!(ring::PacketHeader, segment), 6);
}

#[test]
fn processor_states() {
    use vcpu::*;
    assert_eq!((MAGIC, VERSION, MXCSR_INITIAL), (0x0055_5043_5652_4b46, 1, 0x1f80));
    assert_eq!(
        Level::ALL.map(|level| (level, level.raw(), level.bytes())),
        [(Level::Base, 0, 576), (Level::Avx, 1, 832), (Level::Avx512, 2, 2432)]
    );
    assert_eq!(offset_of!(VcpuState, general) + offset_of!(General, rsp), 72);
    assert_eq!((offset_of!(VcpuState, rip), offset_of!(VcpuState, rflags)), (144, 152));
    assert_eq!((offset_of!(VcpuState, cr2), offset_of!(VcpuState, cr3)), (160, 168));
    assert_eq!((offset_of!(VcpuState, fs_base), offset_of!(VcpuState, tsc)), (176, 200));
    assert_eq!((offset_of!(VcpuState, x87), offset_of!(VcpuState, mxcsr)), (208, 312));
    assert_eq!((offset_of!(VcpuState, xmm), offset_of!(VcpuState, ymm_high)), (320, 576));
    assert_eq!((offset_of!(VcpuState, opmask), offset_of!(VcpuState, zmm_high)), (832, 896));
    assert_eq!((offset_of!(VcpuState, zmm), size_of::<VcpuState>()), (1408, 2432));
}

#[test]
fn boot_record() {
    use boot::*;
    assert_eq!((MAGIC, VERSION), (0x0054_4f4f_4252_4b46, 6));
    assert_eq!((DIRECT_MAP, CORE_BASE, CORE_ALIGN), (0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, 0x20_0000));
    assert_eq!((MMIO_WINDOW, MMIO_WINDOW_END), (0xffff_fe00_0000_0000, 0xffff_fe80_0000_0000));
    assert_eq!([owner::FREE, owner::CORE, owner::MODULE, owner::LOADER, owner::GOLDEN], [0, 1, 2, 3, 4]);
    assert_eq!([segment::WRITE, segment::EXECUTE, segment::HOLE], [1, 2, 4]);
    assert_eq!([program::GOOD, program::NO_MODULE, program::REFUSED], [0, 1, 2]);
    assert_eq!([backend::VMX, backend::SVM], [1, 2]);
    assert_eq!([note::KIND_COMPONENT, note::KIND_GUEST, note::KIND_CORE_VMX, note::KIND_CORE_SVM], [1, 2, 3, 4]);
    assert_eq!(note::WITH_SELFTEST, 256);
    assert_eq!((size_of::<Segment>(), size_of::<Program>(), size_of::<Component>()), (40, 352, 3144));
    assert_eq!((size_of::<PciDevice>(), size_of::<Screen>(), size_of::<Options>()), (176, 10_272, 64));
    assert_eq!((size_of::<Vms>(), offset_of!(Vms, written), offset_of!(BootRecord, vms)), (48, 40, 664));
    assert_eq!((offset_of!(BootRecord, root), offset_of!(BootRecord, ranges)), (56, 2440));
    assert_eq!(size_of::<BootRecord>(), 69672 + 32 * limits::MAX_TENANTS);
}

#[test]
fn windows_of_vms_that_go_out() {
    use swap::*;
    assert_eq!((WINDOWS, WINDOW_PAGES, WINDOW_BYTES, SHEET_STRIDE, UNIT_BYTES), (8, 512, 0x20_0000, 0x2000, 64));
    assert_eq!((size_of::<Sheet>(), KEPT_OFFSET, offset_of!(Kept, state)), (4568, 2048, 88));
    assert_eq!((SHARED_PAGES, offset_of!(Kept, shared)), (512, 24));
    use component::layout::*;
    assert_eq!((IDLES, SWAP_SHEETS, SWAP_WINDOW, POOL), (0xf000_0000, 0xf800_0000, 0x3_0000_0000, 0x10_0000_0000));
    let whole = Bundle { counter: 1, place: 1, bytes: 64, pages: 512, ..Bundle::NONE };
    assert!(whole.fits(65) && !whole.fits(64) && !Bundle { counter: 0, ..whole }.fits(128));
    assert!(!Bundle { bytes: 129, ..whole }.fits(128));
    assert!(!Bundle { bytes: 0, ..whole }.fits(128) && !Bundle { pages: 513, ..whole }.fits(128));
}

#[test]
fn records_of_vms() {
    use record::*;
    assert_eq!([place::FREE, place::WRITTEN, place::WAITING, place::ADMITTED], [0, 1, 2, 3]);
    assert_eq!((size_of::<Record>(), offset_of!(Record, share), offset_of!(Record, args)), (184, 24, 44));
    assert_eq!((size_of::<Cell>(), PIECE_BYTES, offset_of!(Cell, bytes)), (64, 59, 5));
    assert_eq!((Args::EMPTY.first(), Args::at(7).first()), (0xffff_ffff, 7));
    assert_eq!([0, 1, 59, 60, 1024].map(cells_for), [0, 1, 1, 2, 18]);
}

#[test]
fn messages_survive_the_ring() {
    use message::Message;
    let vm = vm::VmId::new(0x000f_0201, 0x8000_0007);
    let (seat, node) = (vm::Seat::new(0xfffe), nic::Node::new(0x3ff_fffe));
    let room = sched::Room { frames: 0x1_2345_6789, seats: 65_535 };
    let share = share::Share { weight: 9_999, rate: 0x1_0000, burst: 0xffff_0000 };
    let tenant = tenant::Tenant::new("------").expect("a name");
    for event in [
        pager::PagerEvent::Hello { frames: 1, free: 2 },
        pager::PagerEvent::Segment {
            image: vm::ImageId::new(0x1_0003),
            first_page: 32,
            pages: 9,
            file_pages: 4,
            writable: true,
        },
        pager::PagerEvent::VmStarted { vm, seat, image: vm::ImageId::new(0x1_0003), pages: 4096, reserve: 24 },
        pager::PagerEvent::VmEnded { vm, seat },
        pager::PagerEvent::Fault { vm, seat, page: 77, access: pager::Access::Write, present: true },
        pager::PagerEvent::OutOfFrames { vm, seat, page: 77, free: 0 },
        pager::PagerEvent::Room { frames: 0x1_2345_6789, seats: 65_535 },
        pager::PagerEvent::Stays { vm, seat, why: pager::Stays::Busy },
        pager::PagerEvent::Stays { vm, seat, why: pager::Stays::Full },
        pager::PagerEvent::ImageGone { image: vm::ImageId::new(47) },
        pager::PagerEvent::Looked { vm, seat, page: 64, used: 1 << 63, there: !1, ran_ticks: 1 << 50 },
        pager::PagerEvent::Gone { vm, seat, page: 64, gone: !0, free: 5 },
        pager::PagerEvent::Came { vm, seat, page: 65 },
    ] {
        assert_eq!(pager::PagerEvent::try_from(&Message::from(event)), Ok(event));
    }
    for command in [
        pager::PagerCommand::MapZero { vm, page: 5, count: 6 },
        pager::PagerCommand::MapImage { vm, page: 5, count: 6 },
        pager::PagerCommand::CopyImage { vm, page: 5 },
        pager::PagerCommand::Resume { vm },
        pager::PagerCommand::Refuse { vm, page: 5 },
        pager::PagerCommand::Out { vm },
        pager::PagerCommand::Look { vm, page: 64, pages: !0 },
        pager::PagerCommand::Away { vm, page: 64, pages: 1 << 63 },
    ] {
        assert_eq!(pager::PagerCommand::try_from(&Message::from(command)), Ok(command));
    }
    for event in [
        sched::SchedEvent::Hello { quantum_ticks: 10, room, admission: sched::Admission::Deadline },
        sched::SchedEvent::Arrived { vm, frames: 20, room, tenant },
        sched::SchedEvent::Ready { vm, seat, weight: 10_000 },
        sched::SchedEvent::Blocked { vm, seat, ran_ticks: 99, idle: true },
        sched::SchedEvent::Ended { vm, seat: None, room },
        sched::SchedEvent::Ended { vm, seat: Some(seat), room },
        sched::SchedEvent::Room { room },
        sched::SchedEvent::Later { vm },
        sched::SchedEvent::Gatekeeper { admission: sched::Admission::WorkingSet },
    ] {
        assert_eq!(sched::SchedEvent::try_from(&Message::from(event)), Ok(event));
    }
    for (command, kind) in [
        (sched::SchedCommand::Run { vm, quantum_ticks: 9 }, 0x211),
        (sched::SchedCommand::Admit { vm }, 0x212),
        (sched::SchedCommand::Hold { vm }, 0x213),
        (sched::SchedCommand::Rules { most_in_row: 8, preempts: true, slice_ticks: 9 }, 0x214),
        (sched::SchedCommand::Allow { vm, ticks: 9 }, 0x215),
        (sched::SchedCommand::First { vm }, 0x216),
    ] {
        let message = Message::from(command);
        assert_eq!((sched::SchedCommand::try_from(&message), message.kind), (Ok(command), kind));
    }
    let traffic = charges::Traffic { rx_bytes: 1 << 40, tx_bytes: 2, rx_frames: u32::MAX, tx_frames: 4 };
    let charges = charges::Charges { service_ticks: 1 << 50, traffic, faults: u32::MAX, wakes: 6 };
    let disk_use = charges::DiskUse { requests: u32::MAX, blocks: 7 };
    let used = disk_service::DiskCommand::Used { vm, done: disk_use };
    let message = Message::from(used);
    assert_eq!((disk_service::DiskCommand::try_from(&message), message.kind), (Ok(used), 0x715));
    for event in [
        net::NetEvent::Hello,
        net::NetEvent::Attach {
            vm,
            seat,
            node,
            ipv4: 1,
            rx_slots: 2,
            tx_slots: 3,
            share,
            account: 255,
            rate: u32::MAX - 1,
        },
        net::NetEvent::Rate { account: 255, rate: 0 },
        net::NetEvent::Address { vm, seat, ipv4: 0x0a00_0263 },
        net::NetEvent::Out { vm, node, ipv4: 0x0a00_0263, ran: true, tenant },
        net::NetEvent::Leave { vm, seat, tenant },
        net::NetEvent::Gone { vm },
        net::NetEvent::Detach { vm, seat },
    ] {
        assert_eq!(net::NetEvent::try_from(&Message::from(event)), Ok(event));
    }
    for command in [
        net::NetCommand::Detached { vm },
        net::NetCommand::Refused { vm },
        net::NetCommand::Node { node },
        net::NetCommand::Stays { vm },
        net::NetCommand::Used { vm, traffic, of: 7, caused: 5, work: 6 },
    ] {
        assert_eq!(net::NetCommand::try_from(&Message::from(command)), Ok(command));
    }
    assert_eq!(Message::from(net::NetCommand::Used { vm, traffic, of: 7, caused: 5, work: 6 }).kind, 0x315);
    let bundle =
        swap::Bundle { counter: 1 << 40, checksum: !0, place: u32::MAX, bytes: 0x8000_0001, pages: 512, tier: 1 };
    for (event, kind) in [
        (swap::SwapEvent::Hello, 0x801),
        (swap::SwapEvent::Holds { vm, bundle }, 0x802),
        (swap::SwapEvent::Store { vm, counter: 1 << 40, pages: 77, window: 7, spare: true }, 0x803),
        (swap::SwapEvent::Load { vm, bundle, window: 7 }, 0x804),
        (swap::SwapEvent::Forget { vm, bundle }, 0x805),
        (swap::SwapEvent::StorePages { vm, counter: 1 << 40, pages: 64, window: 7, spare: true }, 0x806),
    ] {
        let message = Message::from(event);
        assert_eq!((swap::SwapEvent::try_from(&message), message.kind), (Ok(event), kind));
    }
    for (command, kind) in [
        (swap::SwapCommand::Stored { vm, bundle }, 0x811),
        (swap::SwapCommand::Refused { vm, counter: 3 }, 0x812),
        (swap::SwapCommand::Loaded { vm, counter: 4 }, 0x813),
        (swap::SwapCommand::Damaged { vm, counter: 5 }, 0x814),
        (swap::SwapCommand::Moved { vm, counter: 6 }, 0x815),
        (swap::SwapCommand::Unread { vm, counter: 7 }, 0x816),
    ] {
        let message = Message::from(command);
        assert_eq!((swap::SwapCommand::try_from(&message), message.kind), (Ok(command), kind));
    }
    use swap_disk::{SwapDiskReply, SwapDiskRequest};
    for (request, kind) in [
        (SwapDiskRequest::Hello { session: u32::MAX }, 0x901),
        (SwapDiskRequest::Read { region: 1, first: u32::MAX, blocks: 4, run: 15 }, 0x902),
        (SwapDiskRequest::Write { region: u32::MAX, first: 2, blocks: 1, run: u16::MAX }, 0x903),
    ] {
        let message = Message::from(request);
        assert_eq!((SwapDiskRequest::try_from(&message), message.kind), (Ok(request), kind));
    }
    for (reply, kind) in [
        (SwapDiskReply::Regions { session: 1, regions: u32::MAX, region_blocks: 16, writable: true }, 0x911),
        (SwapDiskReply::Ended { status: swap_disk::status::NONSENSE, run: u16::MAX }, 0x912),
    ] {
        let message = Message::from(reply);
        assert_eq!((SwapDiskReply::try_from(&message), message.kind), (Ok(reply), kind));
    }
    assert_eq!([swap_disk::status::DONE, swap_disk::status::FAILED, swap_disk::status::NONSENSE], [0, 1, 2]);
    assert_eq!((swap_disk::REQUESTS, swap_disk::REPLIES), ("swap-diskmux", "diskmux-swap"));
    assert_eq!((swap_disk::RUNS, swap_disk::RUN_BLOCKS, swap_disk::DATA_BYTES), (15, 8, 0x7_8000));
    use guest_disk::{DiskCompletion, DiskOrder};
    for (order, kind) in [
        (DiskOrder::Read { block: u64::MAX, slot: 0xfffe }, 0x601),
        (DiskOrder::Write { block: 7, slot: 7 }, 0x602),
        (DiskOrder::Flush, 0x603),
        (DiskOrder::Discard { block: 1 << 40 }, 0x604),
    ] {
        let message = Message::from(order);
        assert_eq!((DiskOrder::try_from(&message), message.kind), (Ok(order), kind));
    }
    let ended = DiskCompletion::Ended { status: 6 };
    assert_eq!((DiskCompletion::try_from(&Message::from(ended)), Message::from(ended).kind), (Ok(ended), 0x611));
    let args = request_page::Piece { offset: 0x0ffe, len: 0xfedc };
    let tenant = tenant::Tenant::new("------").expect("a name");
    let claim = claim::Claim { reserve: 0x8765_4321, limit: u32::MAX };
    for request in [
        control::ControlRequest::Create {
            image: vm::ImageId::new(2),
            slot: None,
            ipv4: u32::MAX,
            args,
            share,
            claim,
            tenant,
            disk: args,
        },
        control::ControlRequest::Create {
            image: vm::ImageId::new(u32::MAX),
            slot: Some(vm.slot),
            ipv4: 0,
            args,
            share: share::Share::UNSAID,
            claim: claim::Claim::UNSAID,
            tenant: tenant::Tenant::UNSAID,
            disk: args,
        },
        control::ControlRequest::Barriers,
        control::ControlRequest::Wakes,
        control::ControlRequest::Pool,
        control::ControlRequest::Identity { vm, ipv4: 0x0a00_0263, args },
        control::ControlRequest::Network,
        control::ControlRequest::ImageArguments { image: vm::ImageId::new(7), to: args },
        control::ControlRequest::ReadState { vm, to: args },
        control::ControlRequest::WriteState { vm, from: args },
        control::ControlRequest::Destroy { vm },
        control::ControlRequest::ImageBegin { from: args },
        control::ControlRequest::ImagePage { image: vm::ImageId::new(7), page: u32::MAX, from: args },
        control::ControlRequest::ImageEnd { image: vm::ImageId::new(7) },
        control::ControlRequest::ImageRemove { image: vm::ImageId::new(7) },
        control::ControlRequest::ImageDetails { image: vm::ImageId::new(7), to: args },
        control::ControlRequest::Kill { component: 3 },
        control::ControlRequest::Share { slot: vm.slot },
        control::ControlRequest::NextVm { slot: vm.slot },
        control::ControlRequest::Policy { component: 3, policy: 2 },
        control::ControlRequest::Swap { component: 3, policy: 2 },
        control::ControlRequest::NextCharges { slot: vm.slot },
        control::ControlRequest::Account,
        control::ControlRequest::Tenant { tenant },
        control::ControlRequest::NextTenant { number: u32::MAX },
        control::ControlRequest::SetQuota {
            tenant,
            quota: quota::Quota { vms: 3, frames: 1 << 40, pool: 1 << 33 },
            flow: flow::Flow { wakes: u32::MAX, rate: u32::MAX - 1 },
        },
        control::ControlRequest::ConsoleRead { vm, from: u64::MAX, to: args },
        control::ControlRequest::ConsoleWrite { vm, from: args },
        control::ControlRequest::LogRead { from: u64::MAX, to: args },
        control::ControlRequest::Noted { until: u64::MAX },
    ] {
        assert_eq!(control::ControlRequest::try_from(&Message::from(request)), Ok(request));
    }
    let name = limits::Name::new("netmux").expect("short");
    for reply in [
        control::ControlReply::Frames { owner: name, frames: 5, owners: 6, kept: 7 },
        control::ControlReply::Noted { end: u64::MAX, until: 1 << 40, vms: 2 },
        control::ControlReply::Flow {
            tenant,
            flow: flow::Flow { wakes: 3, rate: 1 << 31 },
            waiting: u32::MAX,
            delayed: 1 << 40,
        },
        control::ControlReply::Tenant {
            number: 255,
            tenant,
            vms: u32::MAX - 1,
            frames: 1 << 52,
            quota: quota::Quota { vms: 3, frames: 1 << 40, pool: 1 << 33 },
            refused: 7,
            pooled: 1 << 34,
        },
        control::ControlReply::Console { vm, next: 1 << 40, missed: 1 << 33, bytes: 7 },
        control::ControlReply::Log { next: 1 << 40, missed: 1 << 33, bytes: 7 },
        control::ControlReply::Component { index: 1, name, incarnation: 2, ran_ticks: 3 },
        control::ControlReply::Charges { vm, ran_ticks: 1, charges },
        control::ControlReply::DiskOf { vm, disk: name, mode: 1, rate: 0xfffe, attached: true, used: disk_use },
        control::ControlReply::Account {
            tsc: 1,
            idle_ticks: 2,
            guest_ticks: 3,
            service_ticks: 4,
            own_ticks: 5,
            ended_ran_ticks: 6,
            ended_service_ticks: 7,
        },
        control::ControlReply::Vm {
            vm,
            image: vm::ImageId::new(0x1_0001),
            state: 2,
            ran_ticks: 3,
            memory: 4,
            metadata: 5,
            tables: 6,
            shared: 7,
            ipv4: 8,
            bus_locks: 9,
            claim,
        },
        control::ControlReply::Network { net: addresses::Net::Dhcp, next: None },
        control::ControlReply::Network {
            net: addresses::Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None },
            next: Some(vm.slot),
        },
        control::ControlReply::Network {
            net: addresses::Net::Static { address: u32::MAX, prefix: 32, gateway: Some(u32::MAX) },
            next: None,
        },
        control::ControlReply::Share { vm, share, reserve: 24, limit: 4109, held: 12, tenant },
        control::ControlReply::Barriers {
            plan: barriers::BarrierPlan {
                mode: 1,
                setup: 2,
                exposed: barriers::Exposures::from_raw(3),
                open: barriers::Exposures::from_raw(4),
                exit: barriers::Barriers::from_raw(5),
                tenant: barriers::Barriers::from_raw(6),
                entry: barriers::Barriers::from_raw(7),
                component: barriers::Barriers::from_raw(8),
            },
        },
        control::ControlReply::Wakes {
            living: 1,
            admitted: 2,
            out: 3,
            waiting: 4,
            woken: 5,
            p50_ticks: 6,
            p99_ticks: 7,
        },
        control::ControlReply::Pool {
            pool_bytes: 1 << 34,
            bytes: 2,
            vms: 3,
            damaged: 4,
            stored: 5,
            loaded: 6,
            refused: 0x8000_0001,
            pages: 0x8000_0002,
            moved: 8,
            on_disk: 9,
        },
        control::ControlReply::Policy {
            component: name,
            name: limits::Name::new("token-bucket").expect("short"),
            policies: 3,
            state: control::policy_state::REFUSED,
        },
        control::ControlReply::Exits {
            exits: 1,
            hypercalls: 2,
            interrupts: 3,
            syscalls: 4,
            faults: 5,
            fallbacks: 6,
            gap_ticks: 7,
        },
    ] {
        assert_eq!(control::ControlReply::try_from(&Message::from(reply)), Ok(reply));
    }
    // Their numbers are as good as promised: whoever controls a machine may have been built before.
    use control::ControlRequest as Request;
    let (slot, image, to) = (vm.slot, vm::ImageId::new(0), args);
    assert_eq!(
        [
            Request::Frames,
            Request::Vm { slot },
            Request::Component { index: 0 },
            Request::Image { image },
            Request::Machine,
            Request::Kill { component: 0 },
            Request::Create { image, slot: None, ipv4: 0, args, share, claim, tenant, disk: args },
            Request::Destroy { vm },
            Request::Shutdown { vm },
            Request::PowerOff,
            Request::Share { slot },
            Request::Policy { component: 0, policy: 0 },
            Request::Swap { component: 0, policy: 0 },
            Request::Identity { vm, ipv4: 0, args },
            Request::NextVm { slot },
            Request::Network,
            Request::ImageArguments { image, to },
            Request::ReadState { vm, to },
            Request::WriteState { vm, from: to },
            Request::Barriers,
            Request::Wakes,
            Request::Pool,
            Request::Frame { address: 0 },
            Request::DiskOf { slot },
            Request::Pause { vm },
            Request::Resume { vm },
            Request::Ended { from: 0 },
            Request::ImageBegin { from: to },
            Request::ImagePage { image, page: 0, from: to },
            Request::ImageEnd { image },
            Request::ImageRemove { image },
            Request::ImageDetails { image, to },
            Request::NextCharges { slot },
            Request::Account,
            Request::Tenant { tenant },
            Request::NextTenant { number: 0 },
            Request::SetQuota { tenant, quota: quota::Quota::NONE, flow: flow::Flow::NONE },
            Request::ConsoleRead { vm, from: 0, to },
            Request::ConsoleWrite { vm, from: to },
            Request::AdjustClock { by_ns: 0, ppm: 0 },
            Request::Boot,
            Request::LogRead { from: 0, to },
            Request::Noted { until: 0 },
        ]
        .map(|request| Message::from(request).kind),
        [
            0x401, 0x402, 0x403, 0x404, 0x405, 0x406, 0x407, 0x408, 0x409, 0x40a, 0x40b, 0x40c, 0x40d, 0x40e, 0x40f,
            0x421, 0x422, 0x423, 0x424, 0x425, 0x426, 0x427, 0x428, 0x429, 0x42a, 0x42b, 0x42c, 0x42d, 0x42e, 0x42f,
            0x430, 0x431, 0x434, 0x435, 0x436, 0x437, 0x438, 0x448, 0x449, 0x450, 0x452, 0x454, 0x461
        ]
    );
    use control::status::*;
    assert_eq!(
        [
            OK,
            NOT_FOUND,
            NO_SPACE,
            BAD_REQUEST,
            NO_MODULE,
            BAD_MODULE,
            BUSY,
            GO_ON,
            MOVED,
            TOO_LONG,
            NOT_ADMITTED,
            NO_ARGUMENTS,
            NO_ADDRESS,
            BAD_CLAIM,
            TAKEN,
            IN_USE,
            NO_FRAMES,
            OVER_VMS,
            OVER_MEMORY,
            TENANTS_TAKEN,
            NO_DISKS,
            DISKS_LOST,
            CONSOLES_TAKEN,
            NOT_ALLOWED
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 24, 25, 28, 29]
    );
    use control::vm_state::*;
    assert_eq!(
        [WAITING, READY, IDLE, FAULT, ENDING, OUT, LEAVING, COMING, POOLED, ON_DISK, PAUSED],
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    );
    assert_eq!((request_page::BYTES, request_page::offset_behind(64)), (4096, 8192));
    assert!(sched::SchedCommand::try_from(&Message::new(0x2ff, [])).is_err());
    assert!(pager::PagerCommand::try_from(&Message::new(0x111, [0, 1 << 32])).is_err());
    assert!(control::ControlRequest::try_from(&Message::new(0x40d, [0, 1 << 16])).is_err());
    // A seat beyond all that there can be.
    assert!(sched::SchedEvent::try_from(&Message::new(0x203, [1, 0x1_0000, 1])).is_err());
}
