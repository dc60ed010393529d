//! Lists of 100,000 VMs: each is found, each once, and an answer takes no more questions to the core than it has to.

use super::*;
use crate::act::act;
use crate::names::{NAMES_MAX, Named};
use crate::parse::parse;
use abi::claim::Claim;
use abi::control::{ControlReply, ControlRequest, status, vm_state};
use abi::limits::Name;
use abi::tenant::Tenant;
use abi::terms::Terms;
use abi::vm::{ImageId, VmId};
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;
use core::cell::Cell;
use ilwaco::block_on;
use ilwaco::control::{AT_ONCE, Control};
use ilwaco::sim::Sim;

/// VMs that live.
const VMS: u32 = 100_000;
/// Every so many slots one is free.
const GAP: u32 = 16;
/// Slots, the first of which are free: as many as the core looks at and more.
const FREE: u32 = 3000;
/// VMs that have a name and do not run.
const STOPPED: u32 = 4000;
const IMAGES: [&str; 2] = ["httpd", "calc"];

/// The slot of a VM.
const fn slot(vm: u32) -> u32 {
    FREE + vm + vm / (GAP - 1)
}

/// The VM in a slot.
fn vm_in(number: u32) -> Option<u32> {
    let at = number.checked_sub(FREE)?;
    let vm = at - at / GAP;
    (at % GAP != GAP - 1 && vm < VMS).then_some(vm)
}

fn id(vm: u32) -> VmId {
    VmId::new(slot(vm), 1)
}

fn tenant(vm: u32) -> Tenant {
    Tenant::new(["blue", "red"][usize::from(vm.is_multiple_of(4))]).expect("a name")
}

fn described(vm: u32) -> ControlReply {
    ControlReply::Vm {
        vm: id(vm),
        image: ImageId::new(vm.is_multiple_of(10).into()),
        state: if vm.is_multiple_of(100) { vm_state::IDLE } else { vm_state::OUT },
        ran_ticks: 0,
        memory: 1,
        metadata: 0,
        tables: 0,
        shared: 0,
        ipv4: 0,
        bus_locks: 0,
        claim: Claim::UNSAID,
    }
}

/// The VM in this slot or the next one where one lives, as far as the core looks.
fn next(from: u32) -> Result<u32, ControlReply> {
    let used = slot(VMS - 1) + 1;
    let end = from.saturating_add(1024).min(used);
    let no = |status, value| ControlReply::Done { status, value };
    let none = if end < used { no(status::GO_ON, end.into()) } else { no(status::NOT_FOUND, 0) };
    (from..end).find_map(vm_in).ok_or(none)
}

/// A core with the VMs. How many questions it was asked.
fn machine() -> Rc<Cell<u32>> {
    let _sim = Sim::new("");
    let asked = Rc::new(Cell::new(0));
    let questions = asked.clone();
    Sim::control(move |request, _| {
        questions.set(questions.get() + 1);
        let none = ControlReply::Done { status: status::NOT_FOUND, value: 0 };
        vec![match request {
            ControlRequest::NextVm { slot } => next(slot.number()).map_or_else(|none| none, described),
            ControlRequest::NextCharges { slot } => next(slot.number()).map_or_else(
                |none| none,
                |vm| ControlReply::Charges {
                    vm: id(vm),
                    ran_ticks: u64::from(vm.is_multiple_of(100)) * u64::from(vm + 1),
                    charges: Default::default(),
                },
            ),
            ControlRequest::Account => ControlReply::Account {
                tsc: 1,
                idle_ticks: 0,
                guest_ticks: 0,
                service_ticks: 0,
                own_ticks: 0,
                ended_ran_ticks: 0,
                ended_service_ticks: 0,
            },
            ControlRequest::Vm { slot } => vm_in(slot.number()).map_or(none, described),
            ControlRequest::Share { slot } => match vm_in(slot.number()) {
                Some(vm) => ControlReply::Share {
                    vm: id(vm),
                    share: Default::default(),
                    reserve: 0,
                    limit: 0,
                    held: 0,
                    tenant: tenant(vm),
                },
                None => none,
            },
            ControlRequest::Wakes => ControlReply::Wakes {
                living: VMS,
                admitted: 0,
                out: 0,
                waiting: 0,
                woken: 0,
                p50_ticks: 0,
                p99_ticks: 0,
            },
            ControlRequest::Image { image } => match usize::try_from(image.number()).ok().and_then(|at| IMAGES.get(at))
            {
                Some(name) => ControlReply::Image { image, name: Name::new(name).expect("short"), memory_bytes: 0 },
                None => none,
            },
            _ => none,
        }]
    });
    asked
}

/// The machine as the operator's VM sees it, where as many VMs have names as can: some run.
async fn begin() -> Node {
    let node = Node::new(Control::open().expect("a ring")).await.expect("an answer");
    let terms = Terms { tenant: tenant(0), ..Terms::UNSAID };
    let names = u32::try_from(NAMES_MAX).expect("few");
    for name in 0..names {
        let vm = name.checked_sub(STOPPED).map(|vm| id(vm * 10));
        let called = if vm.is_some() { format!("web-{name:05}") } else { format!("spare-{name:05}") };
        let image_name = IMAGES[1].to_string();
        let (image, args) = (ImageId::new(1), String::new());
        let named = Named { image, image_name, terms, args, vm, of_fleet: false, runs: true };
        node.names.borrow_mut().add(&called, named).expect("a name");
    }
    node
}

/// What an answer has asked the core, and how often the core was rung for it.
struct Cost {
    asked: Rc<Cell<u32>>,
    rung: u64,
}

impl Cost {
    fn of(asked: &Rc<Cell<u32>>) -> Cost {
        asked.set(0);
        Cost { asked: asked.clone(), rung: Sim::control_rings() }
    }

    /// It has asked so much at most, some at a time.
    fn is(&self, most: u32, what: &str) {
        let (asked, rung) = (self.asked.get(), Sim::control_rings() - self.rung);
        assert!(asked <= most, "{what}: {asked} questions, and {most} are enough");
        // Where there are gaps fewer at a time.
        let rings = u64::from(asked) * 2 / AT_ONCE as u64 + 16;
        assert!(rung <= rings, "{what}: {rung} rings for {asked} questions");
    }
}

async fn say(node: &Node, line: &str) -> crate::said::Said {
    let (text, command) = parse(line).expect(line).pop().expect(line);
    act(node, "a test", &text, command).await.expect(line)
}

/// What an address says, and where it goes on.
async fn get(node: &Node, path: &str) -> (serde_json::Value, Option<String>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let reply = document(node, path, query).await;
    assert_eq!(reply.status, "200 OK", "{path}?{query}: {}", reply.body);
    let next = reply.headers.split(['<', '>']).nth(1).map(ToString::to_string);
    (serde_json::from_str(&reply.body).expect("JSON"), next)
}

/// VMs with names, and those of these that do not run.
const ALL: u32 = VMS + STOPPED;

#[test]
fn all_are_counted_by_command_and_over_http() {
    let asked = machine();
    block_on(async {
        let node = begin().await;
        let (red, named) = (VMS / 4, u32::try_from(NAMES_MAX).expect("few"));
        // What is asked for, how many they are, and how many questions that takes at most beside those for gaps.
        let gaps = VMS / GAP + VMS / 100;
        for (words, vms, most) in [
            ("", ALL, named),
            ("--image calc", VMS / 10 + STOPPED, VMS + gaps + named),
            ("--image httpd", VMS - VMS / 10, VMS + gaps),
            ("--state idle", VMS / 100, VMS + gaps),
            ("--state stopped", STOPPED, named),
            ("--state idle --tenant red", VMS / 100, VMS + gaps + VMS / 100),
            ("--tenant red", red + STOPPED, 2 * VMS + gaps + named),
            ("--tenant green", 0, 2 * VMS + gaps),
            ("--name web-", named - STOPPED, 2 * (named - STOPPED)),
            ("--name spare-0001", 10, 10),
            ("--name spare-0001 --state stopped", 10, 10),
            ("--name nobody", 0, 0),
            ("--image nobody", 0, VMS + gaps),
            ("--after spare-03989", 10, named),
        ] {
            let cost = Cost::of(&asked);
            let said = say(&node, &format!("vm list --count {words}")).await;
            assert_eq!(said.text, format!("{vms}\n"), "{words}");
            cost.is(most + 2 * u32::try_from(AT_ONCE).expect("few"), words);
            // The same code answers both: what looks at all is asked once over HTTP.
            if most > named && words != "--image calc" {
                continue;
            }
            let query = words.replace("--", "&").replace(' ', "=").replace("=&", "&");
            let (count, next) = get(&node, &format!("/vms.json?count{query}")).await;
            assert_eq!((count, next), (serde_json::json!({ "vms": vms }), None), "{query}");
        }
    });
}

/// The ids of a list, or names where there are none.
fn listed(list: &serde_json::Value) -> Vec<String> {
    let word = |vm: &serde_json::Value| vm["id"].as_str().or(vm["name"].as_str()).unwrap_or("?").to_string();
    list.as_array().expect("a list").iter().map(word).collect()
}

#[test]
fn pages_are_all_of_them_each_once_and_a_page_costs_what_it_shows() {
    let asked = machine();
    block_on(async {
        let node = begin().await;
        // A page asks for what it shows, for the gaps between, for some beside, and for the free slots at the beginning.
        let most = |shown: u32| shown + shown / 4 + 3 * u32::try_from(AT_ONCE).expect("few") + FREE / 1024;
        let names = u32::try_from(NAMES_MAX).expect("few");
        let (mut all, mut last, mut after) = (BTreeSet::new(), 0, String::new());
        loop {
            let cost = Cost::of(&asked);
            let said = say(&node, &format!("vm list --json{after}")).await;
            let list = serde_json::from_str(&said.text).expect("JSON");
            let ids = listed(&list);
            // Behind those that do not run it is asked of each name that is left whether it does.
            let is_last = said.aside.is_empty();
            cost.is(most(1000) + u32::from(is_last) * names, &after);
            // By their slots, as far as they run.
            for slot in list.as_array().expect("a list").iter().filter_map(|vm| vm["id"].as_str()) {
                let slot: u32 =
                    slot.trim_start_matches("vm").split('.').next().and_then(|slot| slot.parse().ok()).expect("an id");
                assert!(slot > last);
                last = slot;
            }
            let (before, more) = (all.len(), ids.len());
            all.extend(ids);
            assert_eq!(all.len(), before + more, "each once");
            let Some(word) = said.aside.strip_prefix("there are more: vm list --after ") else { break };
            assert_eq!(more, 1000);
            after = format!(" --after {}", word.trim());
        }
        assert_eq!(all.len(), ALL as usize);
        let (mut served, mut path) = (0, "/vms.json?limit=200&image=calc".to_string());
        loop {
            let cost = Cost::of(&asked);
            let (list, next) = get(&node, &path).await;
            // One of ten fits.
            cost.is(most(2000) + u32::from(next.is_none()) * names, &path);
            served += listed(&list).len();
            let Some(next) = next else { break };
            path = next;
        }
        assert_eq!(served, (VMS / 10 + STOPPED) as usize);
        let cost = Cost::of(&asked);
        assert_eq!(listed(&get(&node, "/vms.json?name=spare-&after=spare-02000&limit=20").await.0).len(), 20);
        cost.is(most(20), "the middle of those that do not run");
    });
}

#[test]
fn who_took_most_is_found_among_all_in_two_looks() {
    let asked = machine();
    block_on(async {
        let node = begin().await;
        let cost = Cost::of(&asked);
        let said = say(&node, "vm top --limit 3 --json").await;
        let list: serde_json::Value = serde_json::from_str(&said.text).expect("JSON");
        assert_eq!(listed(&list).len(), 3);
        cost.is(2 * (VMS + VMS / GAP + VMS / 100), "vm top");
    });
}
