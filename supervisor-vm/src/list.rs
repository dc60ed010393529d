//! Lists of VMs, and one of them: as tables for people, or as JSON for programs. The keys of the JSON are stable; `docs/supervisor.md` lists
//! them.

use crate::names::Named;
use crate::node::{Node, Vm, living, name_of};
use crate::query::{Query, STOPPED};
use crate::refusal::{running, said};
use crate::show::{as_json, milliseconds};
use crate::shown::shown;
use crate::walk::Walk;
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use abi::tenant::Tenant;
use abi::vm::VmId;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::Ipv4Addr;
use ilwaco::control::AT_ONCE;
use serde::Serialize;

/// Memory that an answer takes for each VM of a list, as long as it is put together: with its texts, and while what grows is moved.
const VM_BYTES: usize = 1400;

/// A VM, as it is shown.
#[derive(Serialize)]
pub struct ShownVm {
    name: Option<String>,
    id: Option<String>,
    image: String,
    state: &'static str,
    address: Option<String>,
    memory_bytes: u64,
    limit_bytes: Option<u64>,
    ran_ms: u64,
    /// Whose it is, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
}

/// Some VMs.
#[derive(Default)]
pub struct List {
    /// Those that run, by their slots; then those with a name that do not, by their names.
    pub vms: Vec<ShownVm>,
    /// The last of them, when there are more behind it.
    pub more_after: Option<String>,
}

/// Frames in bytes, where it is known how many.
fn limit_bytes(frames: u32) -> Option<u64> {
    (frames != 0).then(|| u64::from(frames) * PAGE_SIZE)
}

impl ShownVm {
    fn of(node: &Node, vm: &Vm, name: Option<&str>) -> ShownVm {
        ShownVm {
            name: name.map(ToString::to_string),
            id: Some(vm.id.to_string()),
            image: node.image_name(vm.image),
            state: vm.state_word(),
            address: (vm.ipv4 != 0).then(|| Ipv4Addr::from_bits(vm.ipv4).to_string()),
            memory_bytes: vm.frames * PAGE_SIZE,
            limit_bytes: limit_bytes(vm.limit),
            ran_ms: milliseconds(vm.ran_ticks),
            tenant: None,
        }
    }

    fn found(node: &Node, found: &Found<'_>) -> ShownVm {
        match found {
            Found::Runs(vm, name, tenant) => {
                ShownVm { tenant: tenant.and_then(said_of), ..ShownVm::of(node, vm, *name) }
            }
            Found::Stopped(name, named) => ShownVm::stopped(name, named),
        }
    }

    fn stopped(name: &str, named: &Named) -> ShownVm {
        ShownVm {
            name: Some(name.to_string()),
            id: None,
            image: named.image_name.clone(),
            state: STOPPED,
            address: None,
            memory_bytes: 0,
            limit_bytes: limit_bytes(named.terms.claim.limit),
            ran_ms: 0,
            tenant: said_of(named.terms.tenant),
        }
    }

    fn line(&self, text: &mut String) {
        let dash = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_string());
        let (name, id, address) = (dash(&self.name), dash(&self.id), dash(&self.address));
        let (image, state, kib, ran) = (&self.image, self.state, self.memory_bytes / 1024, self.ran_ms);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<20} {id:<10} {image:<14} {state:<10} {address:<15} {kib:>8} {ran:>10}");
    }
}

/// A VM that is asked for.
enum Found<'a> {
    /// One that runs, its name, and whose it is where that was asked.
    Runs(&'a Vm, Option<&'a str>, Option<Tenant>),
    /// One that has a name and does not run.
    Stopped(&'a str, &'a Named),
}

/// Gives each VM that is asked for to `each`, which says whether it wants more.
async fn walk(node: &Node, query: &Query, mut each: impl FnMut(Found<'_>) -> bool) -> Result<(), String> {
    // Without a state that those who run have, or with the beginning of a name, few are looked at of many.
    let first = query.first_slot().filter(|_| query.state.as_deref() != Some(STOPPED));
    if let Some(from) = first {
        let mut running = match &query.name {
            None => Running::All(Walk::vms(node, from)),
            Some(beginning) => Running::Named(node, started(node, beginning, from)),
        };
        loop {
            let vms = running.next().await?;
            if vms.is_empty() {
                break;
            }
            let fits: Vec<Vm> = vms.into_iter().filter(|vm| fits(node, query, vm)).collect();
            // Whose they are costs a question more for each.
            let theirs = match query.tenant {
                None => Vec::new(),
                Some(_) => tenants_of(node, &fits).await?,
            };
            let names = node.names.borrow();
            for (at, vm) in fits.iter().enumerate() {
                let tenant = theirs.get(at).copied().flatten();
                let is_theirs = query.tenant.is_none() || tenant == query.tenant;
                if is_theirs && !each(Found::Runs(vm, names.of(vm.id), tenant)) {
                    return Ok(());
                }
            }
        }
    }
    let mut last = match (query.first_slot(), &query.after) {
        (None, Some(after)) => after.clone(),
        _ => String::new(),
    };
    loop {
        // Nobody holds the names while the core is asked, so others may come and go in between.
        let some: Vec<(String, Named)> = {
            let (names, beginning) = (node.names.borrow(), query.name.as_deref().unwrap_or_default());
            let fits =
                |(name, named): &(&str, &Named)| query.takes_stopped(&named.image_name, name, named.terms.tenant);
            let all = names.beginning(beginning, &last).filter(fits).take(AT_ONCE);
            all.map(|(name, named)| (name.to_string(), named.clone())).collect()
        };
        let Some((name, _)) = some.last() else { return Ok(()) };
        last = name.clone();
        // Those that were never started do not live.
        let ids: Vec<VmId> = some.iter().filter_map(|(_, named)| named.vm).collect();
        let mut lives = node.live(&ids).await.map_err(said)?.into_iter();
        for (name, named) in &some {
            let runs = named.vm.is_some() && lives.next().unwrap_or(false);
            if !runs && !each(Found::Stopped(name, named)) {
                return Ok(());
            }
        }
    }
}

/// VMs that run, some at a time.
enum Running<'n> {
    All(Walk<'n, Vm>),
    /// Those of these ids that do.
    Named(&'n Node, VecDeque<VmId>),
}

impl Running<'_> {
    /// The next ones; none at the end.
    async fn next(&mut self) -> Result<Vec<Vm>, String> {
        let (node, ids) = match self {
            Running::All(walk) => return walk.next().await.map_err(said),
            Running::Named(node, ids) => (node, ids),
        };
        let mut found = Vec::new();
        while found.is_empty() && !ids.is_empty() {
            let some: Vec<VmId> = ids.drain(..ids.len().min(AT_ONCE)).collect();
            let questions: Vec<_> = some.iter().map(|id| ControlRequest::Vm { slot: id.slot }).collect();
            let replies = node.ask_each(&questions).await.map_err(said)?;
            for (id, reply) in some.into_iter().zip(replies) {
                if !matches!(reply, ControlReply::Done { .. }) {
                    found.extend(Some(Vm::of(reply).map_err(said)?).filter(|vm| vm.id == id));
                }
            }
        }
        Ok(found)
    }
}

/// Whether a VM that runs is asked for, if it is of the tenant.
fn fits(node: &Node, query: &Query, vm: &Vm) -> bool {
    let (names, images) = (node.names.borrow(), node.images.borrow());
    query.takes(vm, name_of(&images, vm.image), names.of(vm.id))
}

/// The VMs that were started last under names that begin so, from a slot on, by their slots.
fn started(node: &Node, beginning: &str, from: u32) -> VecDeque<VmId> {
    let names = node.names.borrow();
    let ids = names.beginning(beginning, "").filter_map(|(_, named)| named.vm);
    let mut ids: Vec<VmId> = ids.filter(|id| id.slot.number() >= from).collect();
    ids.sort_unstable_by_key(|id| id.slot.number());
    ids.into()
}

/// Whose each of these VMs is; nobody's where it does not live any more.
async fn tenants_of(node: &Node, vms: &[Vm]) -> Result<Vec<Option<Tenant>>, String> {
    let questions: Vec<_> = vms.iter().map(|vm| ControlRequest::Share { slot: vm.id.slot }).collect();
    let replies = node.ask_each(&questions).await.map_err(said)?;
    let whose = |(asked, reply): (&Vm, ControlReply)| match reply {
        ControlReply::Share { vm, tenant, .. } if vm == asked.id => Some(tenant),
        _ => None,
    };
    Ok(vms.iter().zip(replies).map(whose).collect())
}

/// Whose a VM is, if it still lives.
///
/// # Errors
///
/// What the core refuses.
pub async fn tenant_of(node: &Node, id: VmId) -> Result<Option<Tenant>, String> {
    match node.ask(ControlRequest::Share { slot: id.slot }, drop).await.map_err(said)? {
        ControlReply::Share { vm, tenant, .. } if vm == id => Ok(Some(tenant)),
        _ => Ok(None),
    }
}

/// A tenant's name, if it has one.
fn said_of(tenant: Tenant) -> Option<String> {
    (!tenant.is_unsaid()).then(|| tenant.to_string())
}

/// The VMs that are asked for.
///
/// # Errors
///
/// What the core refuses.
pub async fn list(node: &Node, query: &Query) -> Result<List, String> {
    let mut list = List::default();
    let mut more = false;
    walk(node, query, |found| {
        more = list.vms.len() == query.limit;
        if !more {
            list.vms.push(ShownVm::found(node, &found));
        }
        !more
    })
    .await?;
    if more {
        list.more_after = list.vms.last().and_then(|vm| vm.id.clone().or_else(|| vm.name.clone()));
    }
    Ok(list)
}

/// `vm list`: what is listed, and where it goes on.
///
/// # Errors
///
/// As [`list`].
pub async fn vms(node: &Node, query: &Query, json: bool) -> Result<(String, Option<String>), String> {
    let _room = node.room(node.at_most(query.limit).await? * VM_BYTES)?;
    let List { vms, more_after } = list(node, query).await?;
    if json {
        return Ok((as_json(&vms)?, more_after));
    }
    let mut text =
        "NAME                 ID         IMAGE          STATE      ADDRESS              KiB     RAN ms\n".to_string();
    vms.iter().for_each(|vm| vm.line(&mut text));
    Ok((text, more_after))
}

/// `vm list --count`.
///
/// # Errors
///
/// As [`list`].
pub async fn count(node: &Node, query: &Query, json: bool) -> Result<String, String> {
    let mut vms = 0_u64;
    let mut rest = query.clone();
    // The core knows how many live, and has the figure at hand.
    if *query == (Query { limit: query.limit, ..Query::default() })
        && let ControlReply::Wakes { living, .. } = node.ask(ControlRequest::Wakes, drop).await.map_err(said)?
    {
        vms = living.into();
        rest.state = Some(STOPPED.to_string());
    }
    walk(node, &rest, |_| {
        vms += 1;
        true
    })
    .await?;
    Ok(if json { format!("{{\"vms\":{vms}}}\n") } else { format!("{vms}\n") })
}

/// `vm show`.
///
/// # Errors
///
/// There is no such VM; what the core refuses.
pub async fn vm(node: &Node, vm: &str, json: bool) -> Result<String, String> {
    let named = node.names.borrow().get(vm).cloned();
    let id = match &named {
        Some(named) => named.vm,
        None => Some(running(node, vm)?),
    };
    let lives = match id {
        Some(id) => living(&mut *node.control().await, id).await.map_err(said)?,
        None => None,
    };
    let found = match (lives, named) {
        (Some(vm), _) => {
            let tenant = tenant_of(node, vm.id).await?.and_then(said_of);
            ShownVm { tenant, ..ShownVm::of(node, &vm, node.names.borrow().of(vm.id)) }
        }
        (None, Some(named)) => ShownVm::stopped(vm, &named),
        (None, None) => return Err(format!("{} does not run (any more): `vm list` shows what does", shown(vm))),
    };
    if json {
        return as_json(&found);
    }
    let mut text = String::new();
    for (key, value) in [
        ("name", found.name.clone()),
        ("id", found.id.clone()),
        ("image", Some(found.image.clone())),
        ("state", Some(found.state.to_string())),
        ("address", found.address.clone()),
        ("memory", Some(format!("{} KiB", found.memory_bytes / 1024))),
        ("limit", found.limit_bytes.map(|bytes| format!("{} KiB", bytes / 1024))),
        ("tenant", found.tenant.clone()),
        ("ran", Some(format!("{} ms", found.ran_ms))),
    ] {
        let _ = writeln!(text, "{key:<8} {}", value.as_deref().unwrap_or("-"));
    }
    Ok(text)
}
