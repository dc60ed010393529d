//! What commands show: as a table for people, or as JSON for programs. The keys of the JSON are stable; `docs/supervisor.md` lists them.

use crate::command::shown;
use crate::names::Named;
use crate::node::{Node, Vm};
use crate::refusal::{running, said};
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::Ipv4Addr;
use serde::Serialize;

/// A VM, as it is shown.
#[derive(Serialize)]
struct ShownVm<'a> {
    name: Option<String>,
    id: Option<String>,
    image: &'a str,
    state: &'static str,
    address: Option<String>,
    memory_bytes: u64,
    ran_ms: u64,
}

#[derive(Serialize)]
struct ShownComponent {
    name: String,
    starts: u32,
    ran_ms: u64,
}

#[derive(Serialize)]
struct ShownImage<'a> {
    name: &'a str,
    memory_bytes: u64,
}

#[derive(Default, Serialize)]
struct ShownNode {
    vms: u32,
    vms_admitted: u32,
    vms_out: u32,
    vms_waiting: u32,
    up_ms: u64,
    idle_ms: u64,
    guests_ms: u64,
    components_ms: u64,
    memory_bytes: u64,
    free_bytes: u64,
}

/// Ticks in milliseconds.
pub fn milliseconds(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1000 / u128::from(ilwaco::tsc_hz().max(1))).unwrap_or(u64::MAX)
}

fn as_json(value: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|error| format!("{error}"))?;
    Ok(text + "\n")
}

impl<'a> ShownVm<'a> {
    fn of(node: &'a Node, vm: &Vm, name: Option<String>) -> ShownVm<'a> {
        ShownVm {
            name,
            id: Some(vm.id.to_string()),
            image: node.image_name(vm.image),
            state: vm.state_word(),
            address: (vm.ipv4 != 0).then(|| Ipv4Addr::from_bits(vm.ipv4).to_string()),
            memory_bytes: vm.frames * PAGE_SIZE,
            ran_ms: milliseconds(vm.ran_ticks),
        }
    }

    fn stopped(node: &'a Node, name: &str, named: &Named) -> ShownVm<'a> {
        let name = Some(name.to_string());
        let image = node.image_name(named.image);
        ShownVm { name, id: None, image, state: "stopped", address: None, memory_bytes: 0, ran_ms: 0 }
    }

    fn line(&self, text: &mut String) {
        let dash = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_string());
        let (name, id, address) = (dash(&self.name), dash(&self.id), dash(&self.address));
        let (image, state, kib, ran) = (self.image, self.state, self.memory_bytes / 1024, self.ran_ms);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<20} {id:<10} {image:<14} {state:<8} {address:<15} {kib:>8} {ran:>10}");
    }
}

/// All VMs that run, by their slots; then those with a name that do not, by their names.
async fn all(node: &Node) -> Result<Vec<ShownVm<'_>>, String> {
    let vms = node.vms().await.map_err(said)?;
    let names = node.names.borrow();
    let mut of = names.of();
    let mut all: Vec<ShownVm> = vms.iter().map(|vm| ShownVm::of(node, vm, of.remove(&vm.id.raw()))).collect();
    // What is left has ended.
    let stopped = names.iter().filter(|(_, named)| named.vm.is_none_or(|id| of.contains_key(&id.raw())));
    all.extend(stopped.map(|(name, named)| ShownVm::stopped(node, name, named)));
    Ok(all)
}

/// `vm list`.
pub async fn vms(node: &Node, json: bool) -> Result<String, String> {
    let all = all(node).await?;
    if json {
        return as_json(&all);
    }
    let mut text =
        "NAME                 ID         IMAGE          STATE    ADDRESS              KiB     RAN ms\n".to_string();
    all.iter().for_each(|vm| vm.line(&mut text));
    Ok(text)
}

/// `vm show`.
pub async fn vm(node: &Node, vm: &str, json: bool) -> Result<String, String> {
    let named = node.names.borrow().get(vm).is_some();
    let id = if named { None } else { Some(running(node, vm)?.to_string()) };
    let all = all(node).await?;
    let is = |shown: &&ShownVm| if named { shown.name.as_deref() == Some(vm) } else { shown.id == id };
    let Some(found) = all.iter().find(is) else {
        return Err(format!("{} does not run (any more): `vm list` shows what does", shown(vm)));
    };
    if json {
        return as_json(found);
    }
    let mut text = String::new();
    for (key, value) in [
        ("name", found.name.clone()),
        ("id", found.id.clone()),
        ("image", Some(found.image.to_string())),
        ("state", Some(found.state.to_string())),
        ("address", found.address.clone()),
        ("memory", Some(format!("{} KiB", found.memory_bytes / 1024))),
        ("ran", Some(format!("{} ms", found.ran_ms))),
    ] {
        let _ = writeln!(text, "{key:<8} {}", value.as_deref().unwrap_or("-"));
    }
    Ok(text)
}

/// `component list`.
pub async fn components(node: &Node, json: bool) -> Result<String, String> {
    let mut all = Vec::new();
    for index in 0.. {
        let reply = node.ask(ControlRequest::Component { index }, drop).await.map_err(said)?;
        let ControlReply::Component { name, incarnation, ran_ticks, .. } = reply else { break };
        let name = name.as_str().to_string();
        all.push(ShownComponent { name, starts: incarnation, ran_ms: milliseconds(ran_ticks) });
    }
    if json {
        return as_json(&all);
    }
    let mut text = "NAME             STARTS     RAN ms\n".to_string();
    for ShownComponent { name, starts, ran_ms } in &all {
        let _ = writeln!(text, "{name:<16} {starts:>6} {ran_ms:>10}");
    }
    Ok(text)
}

/// `image list`.
pub async fn images(node: &Node, json: bool) -> Result<String, String> {
    let mut all = Vec::new();
    for (name, number) in node.images.iter().zip(0..) {
        let request = ControlRequest::Image { image: abi::vm::ImageId::new(number) };
        let ControlReply::Image { memory_bytes, .. } = node.ask(request, drop).await.map_err(said)? else { break };
        all.push(ShownImage { name, memory_bytes });
    }
    if json {
        return as_json(&all);
    }
    let mut text = "NAME                  KiB\n".to_string();
    for ShownImage { name, memory_bytes } in &all {
        let _ = writeln!(text, "{name:<16} {:>8}", memory_bytes / 1024);
    }
    Ok(text)
}

/// `node show`.
pub async fn node(node: &Node, json: bool) -> Result<String, String> {
    let mut all = ShownNode::default();
    if let ControlReply::Wakes { living, admitted, out, waiting, .. } =
        node.ask(ControlRequest::Wakes, drop).await.map_err(said)?
    {
        (all.vms, all.vms_admitted, all.vms_out, all.vms_waiting) = (living, admitted, out, waiting);
    }
    let mut machine = |reply| {
        if let ControlReply::Machine { tsc, idle_ticks, component_ticks, guest_ticks, .. } = reply {
            let times = [tsc, idle_ticks, guest_ticks, component_ticks].map(milliseconds);
            [all.up_ms, all.idle_ms, all.guests_ms, all.components_ms] = times;
        }
    };
    node.ask(ControlRequest::Machine, &mut machine).await.map_err(said)?;
    let mut frames = |reply| {
        if let ControlReply::Frames { owner, frames, .. } = reply {
            all.memory_bytes += frames * PAGE_SIZE;
            if owner.as_str() == "free" {
                all.free_bytes = frames * PAGE_SIZE;
            }
        }
    };
    node.ask(ControlRequest::Frames, &mut frames).await.map_err(said)?;
    if json {
        return as_json(&all);
    }
    let ShownNode { vms, vms_admitted, vms_out, vms_waiting, up_ms, .. } = all;
    let (memory, free) = (all.memory_bytes / 1024, all.free_bytes / 1024);
    Ok(format!(
        "VMs      {vms}, of which {vms_admitted} are in, {vms_out} out, {vms_waiting} waiting\n\
         memory   {memory} KiB, of which {free} KiB are free\n\
         up       {up_ms} ms, of which {} ms idle, {} ms in guests, {} ms in components\n",
        all.idle_ms, all.guests_ms, all.components_ms
    ))
}
