//! The session against a simulated core.

#[path = "session_test_core.rs"]
mod simulated;

use super::*;
use abi::addresses::Net;
use abi::barriers::{BarrierPlan, Barriers, Exposures};
use abi::claim::Claim;
use abi::control::GATEKEEPER;
use abi::disk::{DiskReply, DiskRequest};
use abi::share::Share;
use abi::tenant::Tenant;
use proptest::prelude::*;
use simulated::*;
use std::collections::{BTreeMap, VecDeque};

/// Runs a command to its end; what it printed.
fn run(session: &mut Session, core: &mut Core, line: &str) -> Vec<String> {
    core.output.clear();
    session.line(line, core);
    while !core.requests.is_empty() {
        for reply in core.answer() {
            session.reply(&reply, core);
        }
    }
    assert!(!session.busy(), "{line} does not end");
    std::mem::take(&mut core.output)
}

fn fresh(line: &str, vms: &[u32]) -> Vec<String> {
    run(&mut Session::new(40), &mut Core::with_vms(vms), line)
}

const VM_REST: &str = "image=httpd state=idle memory_frames=12 metadata_frames=2 table_frames=4 shared_frames=30 ran_ticks=12345 bus_locks=6 reserve_frames=24 limit_frames=4109 held_frames=18";

#[test]
fn vms_are_listed() {
    let mut core = Core::with_vms(&[0, 3, 39]);
    let output = run(&mut Session::new(40), &mut core, "vms");
    let line = |index| format!("vm index={index} incarnation=1 {VM_REST}");
    assert_eq!(output, [line(0), line(3), line(39), "done vms".to_owned()]);
    assert_eq!(core.most_pending, 1);
    assert_eq!(fresh("vms", &[]), ["done vms"]);
}

/// Runs `create` where the VM in slot 9 has the virtual disk `web`, only to read it, and those in 3 and 10 others; what it printed.
fn create_beside(line: &str) -> (Vec<String>, usize) {
    let (mut session, mut core) = (Session::new(40), Core::with_vms(&[0, 3, 9, 10]));
    core.disks = Some(VecDeque::new());
    session.line(line, &mut core);
    while session.busy() {
        for reply in core.answer() {
            session.reply(&reply, &mut core);
        }
        let Some(asked) = core.disks.as_mut().and_then(VecDeque::pop_front) else { continue };
        let Ok(DiskRequest::VmLoad { index: from }) = DiskRequest::try_from(&asked) else { panic!("{asked:?}") };
        let seats = [(1, 3, "logs"), (2, 9, "web"), (7, 10, "logs")];
        let reply = match seats.into_iter().find(|(seat, ..)| *seat >= from) {
            Some((index, slot, disk)) => DiskReply::VmLoad {
                index,
                vm: VmId::new(slot, 1),
                disk: name(disk),
                requests: 1,
                errors: 0,
                queue: 0,
                p50_us: 0,
                p99_us: 0,
            },
            None => DiskReply::None,
        };
        session.disk_reply(&Message { id: asked.id, ..reply.into() }, &mut core);
    }
    (core.output, core.created.len())
}

#[test]
fn no_vm_is_created_for_a_disk_that_another_one_has() {
    let (said, created) = create_beside("create httpd disk=web");
    let why = "error create: VM 9 has web; write \"shutdown 9\" first, or let both have web:ro";
    assert_eq!((said, created), (vec![why.to_owned()], 0));
    for line in ["create httpd disk=web:ro", "create httpd disk=other", "create httpd"] {
        let (said, created) = create_beside(line);
        assert_eq!((said.last().map(String::as_str), created), (Some("done create"), 1), "{line}: {said:?}");
    }
    let said = fresh("create httpd disk=web", &[0]);
    assert_eq!(said, ["error create: the machine had no disk when it was started; connect one and start it again"]);
}

#[test]
fn what_changes_something_is_noted() {
    use crate::command::{HELP, is_noted};
    let noted = [
        "kill netmux",
        "create httpd disk=a",
        "destroy 1",
        "shutdown 1",
        "identity 1 addr=10.0.2.99",
        "restore 1",
        "policy sched fair",
        "tenants a vms=1",
        "poweroff",
        "state 3",
        "disk snapshot a b",
    ];
    let others = [
        "help",
        "vms",
        "vm 1",
        "frames",
        "frames 4096",
        "components",
        "images",
        "machine",
        "wakes",
        "charges",
        "swap",
        "disks",
        "scrub a",
        "policy",
        "tenants",
        "load 0 00",
    ];
    for line in noted {
        assert!(is_noted(line), "{line}");
    }
    for line in others {
        assert!(Command::parse(line, &mut crate::arguments::Arguments::new()).is_ok(), "{line}");
        assert!(!is_noted(line), "{line}");
    }
    for line in ["", "kill", "nonsense kill", "poweroff now"] {
        assert!(!is_noted(line), "{line}");
    }
    // Each command is among them.
    for (word, ..) in HELP {
        let known = |line: &&str| line.split(' ').next() == Some(word);
        assert!(noted.iter().chain(&others).any(known), "{word}: is it written down?");
    }
}

#[test]
fn empty_slots_are_not_asked_for() {
    let mut core = Core::with_vms(&[0, 3, 700_000]);
    let mut session = Session::new(1 << 20);
    assert_eq!(run(&mut session, &mut core, "vms").len(), 4);
    let (names, gap) = (IMAGES.len() + 1, 700_000 / LOOK as usize);
    assert!(core.asked <= names + 4 + gap, "{}", core.asked);
}

#[test]
fn a_list_that_leads_nowhere_ends() {
    for value in [0, 3, u64::from(u32::MAX), u64::MAX] {
        let mut core = Core::with_vms(&[0]);
        let mut session = Session::new(40);
        session.line("vms", &mut core);
        for _ in 0..4 {
            core.answer().iter().for_each(|reply| session.reply(reply, &mut core));
        }
        let id = session.pending.map_or(0, |pending| pending.id);
        let answer = ControlReply::Done { status: status::GO_ON, value };
        session.reply(&Message { id, ..Message::from(answer) }, &mut core);
        for _ in 0..4 {
            core.answer().iter().for_each(|reply| session.reply(reply, &mut core));
        }
        assert!(!session.busy(), "{value}");
    }
}

#[test]
fn the_other_lists() {
    assert_eq!(
        fresh("components", &[]),
        [
            "component index=0 name=netmux incarnation=1 ran_ticks=7",
            "component index=1 name=pager incarnation=1 ran_ticks=7",
            "component index=2 name=sched incarnation=1 ran_ticks=7",
            "done components"
        ]
    );
    assert_eq!(
        fresh("images", &[]),
        [
            "image index=0 name=httpd memory_bytes=16777216",
            "image index=1 name=hostile memory_bytes=16777216",
            "done images"
        ]
    );
    assert_eq!(
        fresh("frames", &[]),
        [
            "frames owner=free frames=100 owners=1 kept=77",
            "frames owner=vm-metadata frames=24 owners=0 kept=0",
            "done frames"
        ]
    );
    assert_eq!(
        fresh("frames 0x123456", &[]),
        ["frame address=0x123456 owner=vm-memory index=3 page=0x20", "done frames"]
    );
    assert_eq!(
        fresh("frames 0x10000000", &[]),
        ["error frames: no memory is known at 0x10000000; \"frames\" shows whose all frames are"]
    );
    assert_eq!(
        fresh("machine", &[]),
        [
            "machine tsc=1 tsc_hz=3 idle_ticks=2 component_ticks=4 guest_ticks=5 admitted_ticks=6 late=7",
            "counters exits=1 hypercalls=2 interrupts=3 syscalls=4 faults=5 fallbacks=6 gap_ticks=7",
            "barriers mode=strict exposed=ssb,l1tf open=ssb always=eibrs exit=call tenant=ibpb,rsb entry=l1d component=none",
            "done machine"
        ]
    );
    assert_eq!(
        fresh("wakes", &[]),
        [
            "wakes living=5000 in=17 out=4980 waiting=3 woken=20 p50_ticks=1279 p99_ticks=5119 p50_us=0 p99_us=0",
            "pool bytes=4096 used=64 vms=2 gone_out=9 come_in=7 refused=1 damaged=0 on_disk=5 moved=6 pages=8",
            "done wakes"
        ]
    );
    // With a clock of 2 GHz.
    let timed = run(&mut Session::new(40).with_clock(2_000_000_000), &mut Core::default(), "wakes");
    assert!(timed[0].ends_with("p50_ticks=1279 p99_ticks=5119 p50_us=0 p99_us=2"), "{timed:?}");
    let slow = run(&mut Session::new(40).with_clock(1_000), &mut Core::default(), "wakes");
    assert!(slow[0].ends_with("p50_us=1279000 p99_us=5119000"), "{slow:?}");
    assert_eq!(fresh("swap", &[]).last().map(String::as_str), Some("done swap"));
    assert_eq!(
        fresh("swap", &[])[0],
        "pool bytes=4096 used=64 vms=2 gone_out=9 come_in=7 refused=1 damaged=0 on_disk=5 moved=6 pages=8"
    );
}

#[test]
fn one_vm() {
    let share = "share index=3 incarnation=1 weight=300 rate=unlimited burst=65536 reserve_frames=24 limit_frames=4109 held_frames=12";
    let vm = format!("vm index=3 incarnation=1 {VM_REST}");
    assert_eq!(fresh("vm 3", &[3]), [vm.as_str(), share, &format!("charges index=3 {CHARGES}"), "done vm"]);
    let shown = fresh("vm 9", &[9]);
    assert!(shown[1].ends_with(" held_frames=12 tenant=blue"));
    assert_eq!(
        shown[3],
        "disk index=9 incarnation=1 name=web mode=ro rate=unlimited state=attached requests=12 bytes=40960"
    );
    assert_eq!(fresh("vm 4", &[3]), ["error vm: no VM in slot 4; \"vms\" lists them"]);
}

/// What a VM is charged with in these tests.
const CHARGES: &str =
    "incarnation=1 ran_ticks=12 service_ticks=13 rx_frames=16 rx_bytes=14 tx_frames=17 tx_bytes=15 faults=18 wakes=19";

#[test]
fn charges_are_listed_and_the_sums_come_last() {
    let sums = "account tsc=100 idle_ticks=50 guest_ticks=30 service_ticks=15 own_ticks=5 ended_ran_ticks=4 ended_service_ticks=3";
    let line = |index| format!("charges index={index} {CHARGES}");
    // The last slot of all is taken, or none is.
    assert_eq!(fresh("charges", &[3, 39]), [&line(3), &line(39), sums, "done charges"]);
    assert_eq!(fresh("charges", &[3]), [&line(3), sums, "done charges"]);
    assert_eq!(fresh("charges", &[]), [sums, "done charges"]);
}

#[test]
fn components_are_killed_by_name() {
    let mut core = Core::default();
    let mut session = Session::new(4);
    assert_eq!(run(&mut session, &mut core, "kill pager"), ["done kill"]);
    assert_eq!(core.killed, [1]);
    assert_eq!(run(&mut session, &mut core, "kill core"), ["error kill: no component core; \"components\" lists them"]);
    assert_eq!(core.killed, [1]);
}

#[test]
fn policies_are_listed() {
    assert_eq!(
        fresh("policy", &[]),
        [
            "policy component=netmux name=round-robin state=ready",
            "policy component=netmux name=drr state=runs",
            "policy component=pager name=demand state=ready",
            "policy component=sched name=lottery state=ready",
            "policy component=sched name=stride state=runs",
            "policy component=sched name=fair state=missing",
            "policy component=sched name=bad state=refused",
            "policy component=gatekeeper name=fifo state=ready",
            "policy component=gatekeeper name=working-set state=runs",
            "policy component=gatekeeper name=deadline state=missing",
            "done policy"
        ]
    );
}

#[test]
fn policies_are_replaced_by_name() {
    let mut core = Core::default();
    let mut session = Session::new(4);
    assert_eq!(run(&mut session, &mut core, "policy sched stride"), ["done policy"]);
    assert_eq!(run(&mut session, &mut core, "policy netmux round-robin"), ["done policy"]);
    assert_eq!(run(&mut session, &mut core, "policy pager demand"), ["done policy"]);
    assert_eq!(run(&mut session, &mut core, "policy gatekeeper deadline"), ["done policy"]);
    assert_eq!(core.swapped, [(2, 1), (0, 0), (1, 0), (GATEKEEPER, 2)]);
    for (line, said) in [
        ("policy core stride", "error policy: no component core; \"policy\" lists them"),
        ("policy sched drr", "error policy: sched has no policy drr; it has lottery, stride, fair, bad"),
        ("policy gatekeeper fair", "error policy: gatekeeper has no policy fair; it has fifo, working-set, deadline"),
        ("policy pager stride", "error policy: pager has no policies to choose from, only demand"),
    ] {
        assert_eq!(run(&mut session, &mut core, line), [said]);
    }
    assert_eq!(core.swapped.len(), 4);
    for (status, said) in [
        (status::NO_MODULE, "error policy: the module of fair was not loaded at boot; add it to the boot entry"),
        (status::BAD_MODULE, "error policy: the module of fair was refused at boot, the log says why; rebuild it"),
        (status::BUSY, "error policy: another policy is just being replaced; try again"),
        (status::NOT_FOUND, "error policy: it is gone meanwhile; look again"),
    ] {
        core.swap_status = status;
        assert_eq!(run(&mut session, &mut core, "policy sched fair"), [said]);
    }
}

#[test]
fn vms_come_and_go() {
    let mut core = Core::with_vms(&[0]);
    let mut session = Session::new(4);
    let output = run(&mut session, &mut core, "create hostile crime=all n=1");
    assert_eq!(output, ["created index=1 incarnation=5 image=hostile", "done create"]);
    let args = "ip=10.0.2.17/24 crime=all n=1".to_owned();
    assert_eq!(core.created, [(ImageId::new(1), args, Share::UNSAID)]);
    run(&mut session, &mut core, "create httpd weight=300 rate=1MiB");
    let share = Share { weight: 300, rate: 1 << 20, burst: 0 };
    assert_eq!(core.created.pop(), Some((ImageId::new(0), "workers=2 ip=10.0.2.18/24".to_owned(), share)));
    core.vms.remove(&2);
    assert_eq!(
        run(&mut session, &mut core, "create httpd weight=0"),
        ["error create: this is no weight; write weight=N with N from 1 to 10000"]
    );
    let refused = "error create: this is no reserve; write reserve=N with N bytes (KiB, MiB, GiB may follow), whole pages of 4 KiB, from 48 KiB";
    assert_eq!(run(&mut session, &mut core, "create httpd reserve=40KiB"), [refused]);
    let refused = "error create: its reserve is beyond its limit, of which one is the image's; say both, as in reserve=96KiB limit=1MiB";
    assert_eq!(run(&mut session, &mut core, "create httpd limit=64KiB"), [refused]);
    run(&mut session, &mut core, "create httpd reserve=56KiB x=1 limit=1MiB");
    assert_eq!(core.claims.pop(), Some(Claim { reserve: 14, limit: 256 }));
    assert_eq!(core.created.pop().map(|(_, args, _)| args), Some("workers=2 ip=10.0.2.18/24 x=1".to_owned()));
    core.vms.remove(&2);
    assert_eq!(run(&mut session, &mut core, "create nginx"), ["error create: no image nginx; \"images\" lists them"]);
    assert_eq!(run(&mut session, &mut core, "identity 1 addr=10.0.2.99 x=1"), ["done identity"]);
    assert_eq!(run(&mut session, &mut core, "identity 1"), ["done identity"]);
    let vm = VmId::new(1, 5);
    let kept = |text: &str| (vm, 0x0a00_0263, text.to_owned());
    assert_eq!(core.became, [kept("workers=2 ip=10.0.2.99/24 x=1"), kept("workers=2 ip=10.0.2.99/24")]);
    core.identity_status = status::NOT_ADMITTED;
    let refused =
        "error identity: it is out or waits for admission, so it has not been anybody yet; try again when it runs";
    assert_eq!(run(&mut session, &mut core, "identity 1 addr=0.0.0.1"), [refused]);
    core.net = Net::Dhcp;
    let refused = "error identity: addresses come from DHCP on this machine; leave addr= out";
    assert_eq!(run(&mut session, &mut core, "identity 1 addr=10.0.2.99"), [refused]);
    core.net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None };
    assert_eq!(run(&mut session, &mut core, "identity 9"), ["error identity: no VM in slot 9; \"vms\" lists them"]);
    let address = "error identity: this is no host's address; write addr=A.B.C.D";
    assert_eq!(run(&mut session, &mut core, "identity 1 addr=me"), [address]);
    assert_eq!(run(&mut session, &mut core, "destroy 1"), ["done destroy"]);
    assert_eq!(run(&mut session, &mut core, "shutdown 0"), ["done shutdown"]);
    assert_eq!(run(&mut session, &mut core, "destroy 0"), ["error destroy: no VM in slot 0; \"vms\" lists them"]);
    for _ in 0..4 {
        run(&mut session, &mut core, "create httpd");
    }
    let output = run(&mut session, &mut core, "create httpd");
    assert!(output[0].starts_with("error create: no free VM slot or not enough frames"), "{output:?}");
}

#[test]
fn the_state_of_a_processor_is_shown_and_taken_in_pieces() {
    let mut core = Core::with_vms(&[2]);
    let mut session = Session::new(4);
    let hex = |range: std::ops::Range<u8>| range.map(|byte| format!("{byte:02x}")).collect::<String>();
    let (first, rest) = (hex(0..64), hex(64..100));
    let shown = [format!("state index=2 at=0 bytes={first}"), format!("state index=2 at=64 bytes={rest}")];
    let output = run(&mut session, &mut core, "state 2");
    assert_eq!(output, [&shown[0], &shown[1], "done state"]);
    let refused = "error state: no VM in slot 1; \"vms\" lists them";
    assert_eq!(run(&mut session, &mut core, "state 1"), [refused]);
    for (line, said) in [
        ("load 1 00", "error load: the bytes from 0 on come next; or begin again with 0"),
        ("load 0 0", "error load: these are no bytes; write two hexadecimal digits for each"),
        ("load 0", "error load: these are no bytes; write two hexadecimal digits for each"),
        ("load 0 0g", "error load: these are no bytes; write two hexadecimal digits for each"),
        ("load 0 00fF", "done load"),
        ("load 3 00", "error load: the bytes from 2 on come next; or begin again with 0"),
        ("load 0 1020", "done load"),
        ("load 2 3f", "done load"),
        ("restore 2", "done restore"),
        ("restore 1", "error restore: no VM in slot 1; \"vms\" lists them"),
    ] {
        assert_eq!(run(&mut session, &mut core, line), [said], "{line}");
    }
    assert_eq!(core.restored, [(VmId::new(2, 1), vec![0x10, 0x20, 0x3f])]);
    for at in [0, 500, 1000, 1500, 2000] {
        run(&mut session, &mut core, &format!("load {at} {}", "55".repeat(500)));
    }
    let said = "error load: no state is that long; it has at most 2432 bytes";
    assert_eq!(run(&mut session, &mut core, &format!("load 2000 {}", "55".repeat(433))), [said]);
    for (status, said) in [
        (status::BUSY, "error restore: it waits for a page; try again in a moment"),
        (
            status::BAD_REQUEST,
            "error restore: what was loaded is no state, or one that this processor cannot have; load all that \"state\" showed, from 0 on",
        ),
    ] {
        core.state_status = status;
        assert_eq!(run(&mut session, &mut core, "restore 2"), [said]);
    }
}

#[test]
fn boot_arguments_may_be_long_and_what_is_too_long_is_said() {
    let (mut core, mut session) = (Core::default(), Session::new(4));
    // With the image's own, the address and the spaces between them.
    let room = BOOT_ARGS_MAX - "workers=2 ip=10.0.2.16/24 ".len();
    let long = "x".repeat(room);
    let line = format!("create httpd {long}");
    assert!(line.len() <= crate::editor::LINE_MAX);
    assert_eq!(run(&mut session, &mut core, &line), ["created index=0 incarnation=5 image=httpd", "done create"]);
    assert_eq!(core.created[0].1, format!("workers=2 ip=10.0.2.16/24 {long}"));
    for line in [format!("create httpd {long}y"), format!("identity 0 {long}y")] {
        let word = line.split(' ').next().expect("a word");
        let said = format!(
            "error {word}: the boot arguments, with those of the image and the address, take 1025 bytes of 1024; shorten them"
        );
        assert_eq!(run(&mut session, &mut core, &line), [said]);
        let line = format!("{line}{}", "z".repeat(40));
        let said = format!("error {word}: the extra boot arguments are too long; write at most 1024 characters");
        assert_eq!(run(&mut session, &mut core, &line), [said]);
    }
    assert_eq!((core.created.len(), core.became.len()), (1, 0));
}

#[test]
fn a_vm_whose_slot_is_taken_meanwhile_gets_the_address_of_the_next() {
    let (mut core, mut session) = (Core { thieves: 2, ..Core::default() }, Session::new(4));
    let output = run(&mut session, &mut core, "create hostile");
    assert_eq!(output, ["created index=2 incarnation=5 image=hostile", "done create"]);
    assert_eq!(core.created[0].1, "ip=10.0.2.18/24");
    // It gives up when that does not end.
    session.line("create hostile", &mut core);
    while let Some(request) = core.requests.pop_front() {
        let reply = match ControlRequest::try_from(&request).expect("good") {
            ControlRequest::Network => ControlReply::Network { net: core.net, next: None },
            ControlRequest::ImageArguments { .. } => ControlReply::Done { status: status::OK, value: 0 },
            _ => ControlReply::Done { status: status::MOVED, value: 3 },
        };
        session.reply(&Message { id: request.id, ..Message::from(reply) }, &mut core);
    }
    assert!(!session.busy());
    let said = "error create: others come and go, and take its slot each time; try again";
    assert_eq!(core.output.last().map(String::as_str), Some(said));
}

#[test]
fn one_that_nobody_could_wake_is_not_created() {
    let (mut core, mut session) = (Core { create_status: status::NO_ADDRESS, ..Core::default() }, Session::new(4));
    core.net = Net::Dhcp;
    let said = "error create: VMs of this image start with the first packet, and this one has no address; boot with net=ADDRESS/PREFIX or start=now";
    // What the core's ABI calls 12.
    assert_eq!((status::NO_ADDRESS, run(&mut session, &mut core, "create httpd")), (12, vec![said.to_owned()]));
    assert!(core.created.is_empty() && core.vms.is_empty());
    core.create_status = status::OK;
    core.net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None };
    assert_eq!(run(&mut session, &mut core, "create httpd").last().map(String::as_str), Some("done create"));
}

#[test]
fn tenants_are_listed_and_get_quotas() {
    let (mut core, mut session) = (Core::default(), Session::new(4));
    assert_eq!(run(&mut session, &mut core, "tenants"), ["done tenants"]);
    assert_eq!(run(&mut session, &mut core, "tenants red vms=3"), ["done tenants"]);
    assert_eq!(run(&mut session, &mut core, "tenants b memory=64KiB"), ["done tenants"]);
    assert_eq!(run(&mut session, &mut core, "tenants b vms=0 pool=4KiB wakes=5 rate=1000"), ["done tenants"]);
    assert_eq!(run(&mut session, &mut core, "tenants b memory=64KiB"), ["done tenants"]);
    assert_eq!(
        run(&mut session, &mut core, "create httpd tenant=red limit=1MiB").last().map(String::as_str),
        Some("done create")
    );
    let listed = [
        "tenant name=b vms=0 limit_frames=0 vms_quota=0 frames_quota=16 refused=2 pool=300 pool_quota=4096 wakes_quota=5 called=1 delayed=8 rate_quota=1000",
        "tenant name=red vms=1 limit_frames=256 vms_quota=3 frames_quota=unlimited refused=2 pool=300 pool_quota=unlimited wakes_quota=unlimited called=1 delayed=8 rate_quota=unlimited",
        "done tenants",
    ];
    assert_eq!(run(&mut session, &mut core, "tenants"), listed);
    core.quota_status = status::TENANTS_TAKEN;
    let taken = "error tenants: 256 tenants have VMs or quotas, and this is another one; end the VMs of one and take its quota away, or name one that is there: \"tenants\" lists them";
    assert_eq!(run(&mut session, &mut core, "tenants c vms=1"), [taken]);
    let wrong =
        "error tenants: wrong arguments; write \"tenants [NAME vms=N memory=SIZE pool=SIZE wakes=N rate=SIZE]\"";
    assert_eq!(run(&mut session, &mut core, "tenants c vms=one"), [wrong]);
}

#[test]
fn who_is_over_the_quota_of_a_tenant_is_told_which_and_what_to_do() {
    let (mut core, mut session) = (Core::default(), Session::new(4));
    run(&mut session, &mut core, "tenants blue vms=1 memory=2MiB");
    assert_eq!(
        run(&mut session, &mut core, "create httpd tenant=blue limit=3MiB"),
        [
            "error create: with this one the VMs of the tenant blue could hold 3072KiB, and their quota is 2048KiB; say a smaller limit=, end one of them, or write \"tenants blue memory=3072KiB\""
        ]
    );
    run(&mut session, &mut core, "create httpd tenant=blue limit=1MiB");
    assert_eq!(
        run(&mut session, &mut core, "create httpd tenant=blue limit=1MiB"),
        [
            "error create: the tenant blue may have no more VMs: its quota is 1, and 1 live; end one of them, or write \"tenants blue vms=2\""
        ]
    );
    assert_eq!((core.created.len(), core.vms.len()), (1, 1));
    run(&mut session, &mut core, "tenants blue vms=2");
    assert_eq!(
        run(&mut session, &mut core, "create httpd tenant=blue limit=1MiB").last().map(String::as_str),
        Some("done create")
    );
}

#[test]
fn a_list_of_tenants_that_leads_nowhere_ends() {
    let tenant = Tenant::new("blue").expect("a name");
    for number in [0, 3, u32::MAX] {
        let (mut core, mut session) = (Core::default(), Session::new(40));
        session.line("tenants", &mut core);
        let mut asked = 0;
        while let Some(message) = core.requests.pop_front() {
            asked += 1;
            let reply =
                ControlReply::Tenant { number, tenant, vms: 0, refused: 0, frames: 0, quota: Quota::NONE, pooled: 0 };
            session.reply(&Message { id: message.id, ..Message::from(reply) }, &mut core);
        }
        assert!(!session.busy() && asked <= LIVE_TENANTS, "{number}: {asked}");
    }
}

#[test]
fn help_and_mistakes() {
    let help = fresh("help", &[]);
    assert_eq!(help.len(), HELP.len() + 1);
    assert_eq!(
        (help[2].as_str(), help[HELP.len()].as_str()),
        ("help vm N: shows the VM in slot N and its share", "done help")
    );
    let unknown = fresh(" reboot now", &[]);
    assert_eq!(unknown[..HELP.len()], help[..HELP.len()]);
    assert_eq!(unknown[HELP.len()], "error reboot: no such command; the list above has them all");
    assert_eq!(fresh("vm", &[]), ["error vm: wrong arguments; write \"vm N\""]);
    assert_eq!(fresh("vms 3", &[]), ["error vms: it takes no arguments; write \"vms\" alone"]);
}

#[test]
fn the_machine_is_switched_off() {
    let mut core = Core::default();
    assert_eq!(run(&mut Session::new(4), &mut core, "poweroff"), ["done poweroff"]);
    assert!(core.off);
}

/// Pauses until a machine goes off that writes so much down at each look.
fn pauses_until_off(step: u64, lines_wait: u16) -> u16 {
    let mut core = Core { writers: 1, noted: [0, step], lines_wait, ..Core::with_vms(&[0]) };
    let mut session = Session::new(4);
    session.line("poweroff", &mut core);
    assert_eq!(core.output, ["done poweroff"], "it is said first, since it is written down with its end");
    let mut pauses = 0;
    while !core.off {
        for reply in core.answer() {
            session.reply(&reply, &mut core);
        }
        if session.pauses() {
            pauses += 1;
            assert!(core.requests.is_empty() && session.busy());
            session.go_on(&mut core);
        }
        assert!(pauses < 1_000, "it never goes off");
    }
    assert!(!session.busy() && !session.pauses());
    assert_eq!(core.output.len(), 1);
    pauses
}

#[test]
fn the_machine_goes_off_when_that_is_written_down_or_nobody_does() {
    use crate::power::{LOOKS_MOST, PAUSES};
    // Up to 500 is waited for, however much is logged meanwhile.
    assert_eq!(pauses_until_off(500, 0), 1);
    assert_eq!(pauses_until_off(100, 0), 5);
    assert_eq!(pauses_until_off(0, 0), LOOKS_MOST);
    // Where the log ends is known when no lines wait any more: at 700 here, as 100 are logged at a time.
    assert_eq!(pauses_until_off(200, 2), 4);
    assert_eq!(pauses_until_off(1_000, 3), 3);
    assert_eq!(pauses_until_off(1_000, u16::MAX), LOOKS_MOST);
    assert_eq!(u64::from(LOOKS_MOST) / PAUSES, 2, "seconds, less than those after which the plug is pulled");
}

#[test]
fn after_a_reset_questions_are_asked_again_but_nothing_is_done_twice() {
    let mut core = Core::with_vms(&[0, 1]);
    let mut session = Session::new(40);
    session.line("frames", &mut core);
    core.requests.clear();
    session.reset(&mut core);
    for reply in core.answer() {
        session.reply(&reply, &mut core);
    }
    assert_eq!(core.output.last().map(String::as_str), Some("done frames"));

    session.line("kill netmux", &mut core);
    for reply in core.answer() {
        session.reply(&reply, &mut core);
    }
    core.requests.clear();
    session.reset(&mut core);
    assert!(core.requests.is_empty() && !session.busy());
    assert!(core.output.last().expect("a line").starts_with("error kill: the core's answer was lost"));
}

#[test]
fn a_core_that_does_not_answer() {
    let mut core = Core::default();
    let mut session = Session::new(40);
    session.line("machine", &mut core);
    session.expired(&mut core);
    assert_eq!(core.output, ["error machine: the core does not answer; try again"]);
    // Its late answer belongs to nobody.
    for reply in core.answer() {
        session.reply(&reply, &mut core);
    }
    assert_eq!(core.output.len(), 1);
    core.full = true;
    assert_eq!(run(&mut session, &mut core, "frames"), ["error frames: the ring to the core is full; try again"]);
}

proptest! {
    /// Whatever the core answers, in whatever order: no panic, and nothing is sent that is no request or too much.
    #[test]
    fn senseless_answers(
        lines in prop::collection::vec(prop_oneof![
            Just("vms"), Just("vm 2"), Just("kill pager"), Just("create httpd x=1"), Just("destroy 1"), Just("frames"),
            Just("machine"), Just("images"), Just("components"), Just("shutdown 3"), Just("policy"), Just("policy sched stride"),
        ], 1..6),
        answers in prop::collection::vec((0_u32..20, 0x410_u32..0x41c, any::<[u64; 7]>(), 0_u8..10), 0..120),
    ) {
        let mut core = Core::with_vms(&[1, 2]);
        let mut session = Session::new(20);
        let mut lines = lines.into_iter();
        for (id, kind, mut words, what) in answers {
            if !session.busy() && let Some(line) = lines.next() {
                session.line(line, &mut core);
            }
            match what {
                0 => session.reset(&mut core),
                1 => core.full = !core.full,
                2 => session.expired(&mut core),
                3..6 => for reply in core.answer() {
                    session.reply(&reply, &mut core);
                },
                _ => {
                    // Mostly small numbers, as real answers have.
                    if what > 7 {
                        words = words.map(|word| word % 4);
                    }
                    session.reply(&Message { kind, id, words }, &mut core);
                }
            }
            prop_assert!(core.requests.len() < 120);
        }
        for request in &core.requests {
            prop_assert!(ControlRequest::try_from(request).is_ok());
        }
    }

    /// Whatever is typed ends with `done` or `error`, or does nothing.
    #[test]
    fn any_line(line in "[ -~]{0,120}") {
        let output = fresh(&line, &[0]);
        let last = output.last().expect("an answer");
        prop_assert!(last.starts_with("done ") || last.starts_with("error "), "{last}");
    }
}
