//! Lists of VMs, and one of them: as tables for people, or as JSON for programs. The keys of the JSON are stable; `docs/supervisor.md` lists
//! them.

use crate::names::Named;
use crate::node::{Node, Vm, found, living};
use crate::query::{Query, STOPPED};
use crate::refusal::{running, said};
use crate::show::{as_json, milliseconds};
use crate::shown::shown;
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use abi::tenant::Tenant;
use abi::vm::VmId;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::Ipv4Addr;
use serde::Serialize;

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

/// Gives each VM that is asked for to `each`, which says whether it wants more.
async fn walk(node: &Node, query: &Query, mut each: impl FnMut(ShownVm) -> bool) -> Result<(), String> {
    // Without a state that those who run have, or with the beginning of a name, few are looked at of many.
    let first = query.first_slot().filter(|_| query.state.as_deref() != Some(STOPPED));
    if let Some(mut from) = first {
        let mut named = query.name.as_deref().map(|beginning| started(node, beginning, from));
        loop {
            let vm = match &mut named {
                None => node.next_vm(from).await.map_err(said)?,
                Some(ids) => match ids.next() {
                    Some(id) => match found(&mut *node.control().await, id).await.map_err(said)? {
                        Some(vm) => Some(vm),
                        None => continue,
                    },
                    None => None,
                },
            };
            let Some(vm) = vm else { break };
            from = vm.id.slot.number().saturating_add(1);
            let shown = {
                let names = node.names.borrow();
                let name = names.of(vm.id);
                query.takes(&vm, &node.image_name(vm.image), name).then(|| ShownVm::of(node, &vm, name))
            };
            let Some(mut shown) = shown else { continue };
            // Whose it is costs a question more.
            if let Some(wanted) = query.tenant {
                match tenant_of(node, vm.id).await? {
                    Some(tenant) if tenant == wanted => shown.tenant = said_of(tenant),
                    _ => continue,
                }
            }
            if !each(shown) {
                return Ok(());
            }
        }
    }
    let mut last = String::new();
    loop {
        // Nobody holds the names while the core is asked, so others may come and go in between.
        let Some((name, named)) =
            node.names.borrow().behind(&last).map(|(name, named)| (name.to_string(), named.clone()))
        else {
            return Ok(());
        };
        let wanted = query.takes_stopped(&named.image_name, &name, named.terms.tenant);
        if wanted && !runs(node, &named).await? && !each(ShownVm::stopped(&name, &named)) {
            return Ok(());
        }
        last = name;
    }
}

/// The VMs that were started last under names that begin so, from a slot on, by their slots.
fn started(node: &Node, beginning: &str, from: u32) -> impl Iterator<Item = VmId> + use<> {
    let names = node.names.borrow();
    let begin = names.iter().filter(|(name, _)| name.starts_with(beginning));
    let ids = begin.filter_map(|(_, named)| named.vm);
    let mut ids: Vec<VmId> = ids.filter(|id| id.slot.number() >= from).collect();
    ids.sort_unstable_by_key(|id| id.slot.number());
    ids.into_iter()
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

/// Whether the VM that was started last under a name still lives.
async fn runs(node: &Node, named: &Named) -> Result<bool, String> {
    let Some(id) = named.vm else { return Ok(false) };
    Ok(living(&mut *node.control().await, id).await.map_err(said)?.is_some())
}

/// The VMs that are asked for.
///
/// # Errors
///
/// What the core refuses.
pub async fn list(node: &Node, query: &Query) -> Result<List, String> {
    let mut list = List::default();
    let mut more = false;
    walk(node, query, |vm| {
        more = list.vms.len() == query.limit;
        if !more {
            list.vms.push(vm);
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
    walk(node, query, |_| {
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
