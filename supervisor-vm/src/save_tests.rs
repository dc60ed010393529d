use super::*;
use crate::anew;
use crate::keep::QUOTAS;
use crate::limits::Limits;
use crate::lines::hash_of;
use crate::names::Named;
use crate::restore;
use crate::state::{NO_IMAGE, State};
use crate::store::Store;
use abi::charges::DiskUse;
use abi::control::{ControlReply, ControlRequest, status};
use abi::flow::Flow;
use abi::limits::Name;
use abi::quota::Quota;
use abi::terms::Terms;
use abi::vm::{ImageId, VmId};
use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;
use ilwaco::block_on;
use ilwaco::control::Control;
use ilwaco::disk::BLOCK_BYTES;
use ilwaco::disk::Disk;
use ilwaco::sim::{Sim, disk_status};
use ilwaco::time::Duration;

/// Quotas that the core was told.
type Told = Rc<RefCell<Vec<(Tenant, Limits)>>>;

/// A machine with one image, of which this is that start, and this VM with a disk of these bytes, if there are any. What the core was told.
fn machine(boot: u64, bytes: &[u8]) -> Told {
    let _sim = Sim::new("");
    if !bytes.is_empty() {
        Sim::attach_disk(bytes, false);
    }
    let told = Told::default();
    let quotas = told.clone();
    let name = |text| Name::new(text).expect("short");
    Sim::control(move |request, _| {
        vec![match request {
            ControlRequest::Boot => ControlReply::Boot { low: boot, high: 9 },
            ControlRequest::DiskOf { slot } => ControlReply::DiskOf {
                vm: VmId::new(slot.number(), 1),
                disk: name("operator"),
                mode: 0,
                rate: 0,
                attached: true,
                used: DiskUse::NONE,
            },
            ControlRequest::Image { image } if image.number() == 3 => {
                ControlReply::Image { image, name: name("httpd"), memory_bytes: 1 << 20 }
            }
            ControlRequest::Image { image } if image.number() < 3 => {
                ControlReply::Image { image, name: Name::EMPTY, memory_bytes: 0 }
            }
            ControlRequest::SetQuota { tenant, quota, flow } => {
                quotas.borrow_mut().push((tenant, (quota, flow)));
                ControlReply::Done { status: status::OK, value: 0 }
            }
            _ => ControlReply::Done { status: status::NOT_FOUND, value: 0 },
        }]
    });
    told
}

/// What this VM knows when it starts there.
async fn begin() -> Node {
    let node = Node::new(Control::open().expect("a ring")).await.expect("an answer");
    restore::open(&node).await;
    node
}

fn named(image: &str, vm: Option<VmId>, runs: bool) -> Named {
    let image_name = image.to_string();
    let (image, args) = (ImageId::new(3), "a=b".to_string());
    Named { image, image_name, terms: Terms::UNSAID, args, vm, of_fleet: false, runs }
}

/// How many lines an export has, and the number of the first one. They follow one another.
fn whole(export: &str) -> (u64, u64) {
    let (head, lines) = export.split_once('\n').expect("a beginning");
    let value: serde_json::Value = serde_json::from_str(head).expect("JSON");
    let text = value["before"].as_str().expect("a hash");
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("digits");
    let mut before: [u8; 32] = core::array::from_fn(byte);
    let mut count = 0;
    for line in lines.split_inclusive('\n') {
        before = hash_of(&before, line).expect("it follows the one before");
        count += 1;
    }
    (count, value["first"].as_u64().expect("a number"))
}

fn fill(node: &Node) {
    let mut names = node.names.borrow_mut();
    let id = Some(VmId::new(5, 2));
    for (name, vm) in [
        ("runs", named("httpd", id, true)),
        ("stopped", named("httpd", None, false)),
        ("gone", named("httpd", None, false)),
        ("of-another", named("put-once", None, true)),
    ] {
        assert_eq!(names.add(name, vm), Ok(()));
    }
    names.remove("gone");
    node.keep.note_quota(
        Tenant::new("blue").expect("a name"),
        (Quota { vms: 3, ..Quota::NONE }, Flow { wakes: 7, rate: 9 }),
    );
}

#[test]
fn what_was_kept_comes_back_at_the_same_start_and_at_another_one() {
    machine(1, &[0; 64 * BLOCK_BYTES]);
    let (key, token) = block_on(async {
        let node = begin().await;
        let (key, was_kept) = restore::host_key(&node).await;
        assert!(!was_kept && node.keep.why_not().is_none());
        fill(&node);
        let token = node.tokens.borrow_mut().add("ci", &[1; 32], 77).expect("a token");
        node.audit.borrow_mut().ended = 3;
        assert_eq!(audit_line(&node).await, None);
        (key, token)
    });
    for (boot, told_again) in [(1, false), (2, true), (2, false)] {
        let told = machine(boot, &Sim::disk_bytes());
        block_on(async {
            let node = begin().await;
            assert_eq!((restore::host_key(&node).await, node.keep.why_not()), ((key, true), None));
            assert_eq!(node.tokens.borrow_mut().take(&token), Some("ci"));
            let ids = |name: &str| node.names.borrow().get(name).map(|named| (named.vm, named.image, named.runs));
            let lives = (boot == 1).then_some(VmId::new(5, 2));
            assert_eq!(ids("runs"), Some((lives, ImageId::new(3), true)));
            assert_eq!(node.names.borrow().of(VmId::new(5, 2)), lives.map(|_| "runs"));
            assert_eq!(ids("stopped"), Some((None, ImageId::new(3), false)));
            assert_eq!((ids("of-another"), ids("gone")), (Some((None, NO_IMAGE, true)), None));
            assert_eq!(node.audit.borrow().ended, if boot == 1 { 3 } else { 0 });
            let quotas: Vec<_> =
                told.borrow().iter().map(|(_, (quota, flow))| (quota.vms, flow.wakes, flow.rate)).collect();
            assert_eq!(quotas, if told_again { vec![(3, 7, 9)] } else { vec![] });
            assert_eq!(audit_line(&node).await, None);
        });
    }
    machine(2, &Sim::disk_bytes());
    assert_eq!(block_on(async { whole(&export(&begin().await).await.expect("lines")) }), (4, 1));
}

async fn audit_line(node: &Node) -> Option<String> {
    crate::audit::done(node, "somebody", "something", crate::audit::DONE).await
}

#[test]
fn an_export_has_lines_that_are_remembered_no_more() {
    machine(1, &vec![0; 400 * BLOCK_BYTES]);
    let long = "x".repeat(250);
    let add = |node: &Node, count| (0..count).for_each(|_| _ = node.audit.borrow_mut().add(1, &long, &long, &long));
    block_on(async {
        let node = begin().await;
        for _ in 0..3 {
            add(&node, 100);
            assert_eq!(save(&node).await, Ok(()));
        }
        assert!(node.audit.borrow().first() > 100);
        assert_eq!(whole(&export(&node).await.expect("lines")), (300, 1));
        // One that is not kept yet is there, too.
        add(&node, 1);
        assert_eq!(whole(&export(&node).await.expect("lines")), (301, 1));
    });
    machine(1, &Sim::disk_bytes());
    block_on(async {
        let node = begin().await;
        assert_eq!(node.audit.borrow().count(), 300);
        for _ in 0..3 {
            add(&node, 100);
            assert_eq!(save(&node).await, Ok(()));
        }
        let (count, first) = whole(&export(&node).await.expect("lines"));
        assert!(first > 1 && first + count == 601 && count > 350, "{count} lines from {first} on");
    });
}

#[test]
fn without_a_disk_nothing_is_kept_and_that_is_said() {
    machine(1, &[]);
    block_on(async {
        let node = begin().await;
        fill(&node);
        assert_eq!((audit_line(&node).await, save(&node).await), (None, Ok(())));
        assert_eq!(whole(&export(&node).await.expect("lines")), (1, 1));
        let shown = shown(&node).await;
        assert!(shown.disk.is_none() && shown.why.is_some_and(|why| why.contains("has no virtual disk")));
        assert!(forgets(&node) && anew::begin_anew(&node).await.is_err_and(|why| why.contains("no virtual disk")));
    });
}

#[test]
fn a_disk_that_is_not_to_be_used_is_not_written_until_somebody_says_so() {
    let mut bytes = vec![0; 32 * BLOCK_BYTES];
    bytes[3 * BLOCK_BYTES] = 1;
    machine(1, &bytes);
    block_on(async {
        let node = begin().await;
        fill(&node);
        let (key, _) = restore::host_key(&node).await;
        assert_eq!(audit_line(&node).await, None);
        assert!(Sim::disk_bytes() == bytes && node.keep.why_not().is_some_and(|why| why.contains("block 3 holds")));
        anew::begin_anew(&node).await.expect("it is begun");
        assert!(anew::begin_anew(&node).await.is_err_and(|why| why.contains("is in use")));
        let state = State::of(&records(Sim::disk_bytes()).await).expect("it makes sense");
        assert_eq!((state.host, state.names.len(), state.quotas.len()), (Some(key), 3, 1));
    });
}

/// What another VM finds on such a disk.
async fn records(bytes: Vec<u8>) -> crate::store::journal::Records {
    machine(1, &bytes);
    let disk = Disk::attached().expect("a disk");
    Store::open(disk, [0; 16]).await.map_err(|(_, why)| why).expect("a store").1
}

#[test]
fn a_disk_that_fails_is_told_and_tried_again() {
    machine(1, &[0; 32 * BLOCK_BYTES]);
    block_on(async {
        let node = begin().await;
        assert_eq!(audit_line(&node).await, None);
        // The history begins behind two areas of 11 blocks.
        Sim::spoil_block(23, disk_status::FAILED);
        let warned = audit_line(&node).await.expect("a warning");
        assert!(warned.starts_with("this is not kept, and ends with the operator's VM: "), "{warned}");
        assert!(
            node.keep.why_not().is_some_and(|why| why.contains("the last change is not on its virtual disk operator"))
        );
    });
}

#[test]
fn a_disk_that_is_silent_holds_nobody_up_for_ever() {
    machine(1, &[0; 32 * BLOCK_BYTES]);
    block_on(async {
        let node = begin().await;
        Sim::hold_disk();
        assert!(audit_line(&node).await.is_some_and(|why| why.contains("does not answer")));
        // The next one does not wait.
        let before = Instant::now();
        assert!(audit_line(&node).await.is_some());
        assert!(before.elapsed() < Duration::from_millis(100));
        Sim::release_disk();
        ilwaco::time::sleep(COMMITS + Duration::from_secs(1)).await;
        assert_eq!((audit_line(&node).await, node.keep.why_not()), (None, None));
        assert_eq!(node.keep.store.lock().await.as_ref().map(|store| store.history().next()), Some(4));
    });
}

#[test]
fn quotas_of_tenants_without_one_make_room() {
    machine(1, &[]);
    block_on(async {
        let node = begin().await;
        let tenant = |number: usize| Tenant::new(&format!("t{number}")).expect("a name");
        (0..QUOTAS).for_each(|number| {
            let quota = if number < 10 { Quota::NONE } else { Quota { vms: 1, ..Quota::NONE } };
            node.keep.note_quota(tenant(number), (quota, Flow::NONE));
        });
        node.keep.note_quota(tenant(QUOTAS), (Quota::NONE, Flow { wakes: 1, rate: 0 }));
        assert_eq!(node.keep.quotas.borrow().len(), QUOTAS - 9);
    });
}
