//! The machine's figures in Prometheus' text format.

use crate::node::Node;
use crate::refusal::said;
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{Display, Write};

/// VMs that have figures of their own at most: what is scraped every few seconds shall not take all memory.
pub const VMS_MAX: usize = 2000;

/// The text of a page, metric by metric.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the metric that was begun last. `labels` is empty, or `a="b",c="d"`.
    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, "", value);
    }
}

/// A value between the quotes of a label.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Ticks as seconds, with microseconds.
fn seconds(ticks: u64) -> String {
    let us = u128::from(ticks) * 1_000_000 / u128::from(ilwaco::tsc_hz().max(1));
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// The page.
///
/// # Errors
///
/// What the core refuses.
pub async fn page(node: &Node) -> Result<String, String> {
    let mut page = Page::default();
    machine(node, &mut page).await?;
    components(node, &mut page).await?;
    vms(node, &mut page).await?;
    Ok(page.0)
}

async fn machine(node: &Node, page: &mut Page) -> Result<(), String> {
    let mut memory = Page::default();
    memory.metric("foraker_memory_bytes", "gauge", "Memory by its owner.");
    node.ask(ControlRequest::Frames, |reply| {
        if let ControlReply::Frames { owner, frames, .. } = reply {
            let labels = format!("owner=\"{}\"", label(owner.as_str()));
            memory.sample("foraker_memory_bytes", &labels, frames * PAGE_SIZE);
        }
    })
    .await
    .map_err(said)?;
    page.0.push_str(&memory.0);
    let mut times = None;
    let last = node.ask(ControlRequest::Machine, |reply| times = Some(reply)).await.map_err(said)?;
    if let Some(ControlReply::Machine { tsc, idle_ticks, component_ticks, guest_ticks, .. }) = times {
        page.metric("foraker_cpu_seconds_total", "counter", "Time of the processor by what it was used for.");
        for (what, ticks) in [("idle", idle_ticks), ("components", component_ticks), ("guests", guest_ticks)] {
            page.sample("foraker_cpu_seconds_total", &format!("mode=\"{what}\""), seconds(ticks));
        }
        page.single("foraker_up_seconds_total", "counter", "Time since the processor was reset.", seconds(tsc));
    }
    if let ControlReply::Exits { exits, hypercalls, interrupts, syscalls, faults, fallbacks, .. } = last {
        for (name, help, value) in [
            ("foraker_exits_total", "Exits of VMs.", exits),
            ("foraker_hypercalls_total", "Hypercalls of VMs.", hypercalls),
            ("foraker_interrupts_total", "External interrupts.", interrupts),
            ("foraker_syscalls_total", "System calls of components.", syscalls),
            ("foraker_page_faults_total", "Faults that the pager was asked to serve.", faults),
            ("foraker_fallback_turns_total", "Turns that the core gave because no plan was there.", fallbacks),
        ] {
            page.single(name, "counter", help, value);
        }
    }
    if let ControlReply::Wakes { living, admitted, out, waiting, woken, .. } =
        node.ask(ControlRequest::Wakes, drop).await.map_err(said)?
    {
        page.single("foraker_vms", "gauge", "VMs that live.", living);
        page.metric("foraker_vms_by_place", "gauge", "VMs by where they are.");
        for (place, count) in [("in", admitted), ("out", out), ("waiting", waiting)] {
            page.sample("foraker_vms_by_place", &format!("place=\"{place}\""), count);
        }
        page.single("foraker_wakes_total", "counter", "VMs that were called from being out and came in.", woken);
    }
    Ok(())
}

async fn components(node: &Node, page: &mut Page) -> Result<(), String> {
    let (mut starts, mut ran) = (Page::default(), Page::default());
    starts.metric("foraker_component_starts_total", "counter", "How often a component was started.");
    ran.metric("foraker_component_cpu_seconds_total", "counter", "Time that a component ran.");
    for index in 0.. {
        let reply = node.ask(ControlRequest::Component { index }, drop).await.map_err(said)?;
        let ControlReply::Component { name, incarnation, ran_ticks, .. } = reply else { break };
        let labels = format!("component=\"{}\"", label(name.as_str()));
        starts.sample("foraker_component_starts_total", &labels, incarnation);
        ran.sample("foraker_component_cpu_seconds_total", &labels, seconds(ran_ticks));
    }
    page.0.push_str(&starts.0);
    page.0.push_str(&ran.0);
    Ok(())
}

async fn vms(node: &Node, page: &mut Page) -> Result<(), String> {
    let vms = node.vms().await.map_err(said)?;
    let names = node.names.borrow().of();
    let of = |id: abi::vm::VmId| names.get(&id.raw()).map_or("", String::as_str);
    let listed = || {
        vms.iter().take(VMS_MAX).map(|vm| {
            let (id, name, image) = (vm.id.to_string(), of(vm.id), node.image_name(vm.image));
            (vm, format!("vm=\"{id}\",name=\"{}\",image=\"{}\"", label(name), label(image)))
        })
    };
    page.metric("foraker_vm_memory_bytes", "gauge", "Memory that is a VM's own, with page tables and metadata.");
    listed().for_each(|(vm, labels)| page.sample("foraker_vm_memory_bytes", &labels, vm.frames * PAGE_SIZE));
    page.metric("foraker_vm_cpu_seconds_total", "counter", "Time that a VM ran.");
    listed().for_each(|(vm, labels)| page.sample("foraker_vm_cpu_seconds_total", &labels, seconds(vm.ran_ticks)));
    page.metric("foraker_vm_state", "gauge", "The state of a VM: 1 for the one that it is in.");
    listed().for_each(|(vm, labels)| {
        page.sample("foraker_vm_state", &format!("{labels},state=\"{}\"", vm.state_word()), 1);
    });
    let rest = vms.len().saturating_sub(VMS_MAX);
    page.single("foraker_vms_not_listed", "gauge", "VMs beyond those that have figures of their own.", rest);
    Ok(())
}
