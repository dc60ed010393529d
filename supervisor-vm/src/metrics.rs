//! The machine's figures in Prometheus' text format.

use crate::charges::{self, Bills};
use crate::exposition::{Page, from_us, label, seconds};
use crate::node::Node;
use crate::refusal::said;
use crate::tenants;
use crate::walk::Walk;
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use alloc::format;
use alloc::string::String;
use ilwaco::time::unix_nanos;

/// VMs that have figures of their own at most: what is scraped every few seconds shall not take all memory.
pub const VMS_MAX: usize = 2000;
/// Memory that the figures of a VM take, twice: while they are gathered, and as the page; and what all others do.
const VM_BYTES: usize = 2 * 1300;
/// See `VM_BYTES`.
const OTHERS: usize = 96 << 10;

/// The page.
///
/// # Errors
///
/// What the core refuses.
pub async fn page(node: &Node) -> Result<String, String> {
    let _room = node.room(node.at_most(VMS_MAX).await? * VM_BYTES + OTHERS)?;
    let mut page = Page::default();
    machine(node, &mut page).await?;
    charges::account(node, &mut page).await?;
    components(node, &mut page).await?;
    tenants::figures(node, &mut page).await?;
    vms(node, &mut page).await?;
    Ok(page.into_text())
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
    page.append(memory);
    let mut times = None;
    let last = node.ask(ControlRequest::Machine, |reply| times = Some(reply)).await.map_err(said)?;
    if let Some(ControlReply::Machine { tsc, idle_ticks, component_ticks, guest_ticks, .. }) = times {
        page.metric("foraker_cpu_seconds_total", "counter", "Time of the processor by what it was used for.");
        for (what, ticks) in [("idle", idle_ticks), ("components", component_ticks), ("guests", guest_ticks)] {
            page.sample("foraker_cpu_seconds_total", &format!("mode=\"{what}\""), seconds(ticks));
        }
        page.single("foraker_up_seconds_total", "counter", "Time since the processor was reset.", seconds(tsc));
    }
    page.single(
        "foraker_unix_seconds",
        "gauge",
        "Unix time by the machine's clock.",
        from_us((unix_nanos() / 1_000).cast_signed()),
    );
    let clock = node.clock.borrow().clone();
    if clock.answers > 0 {
        let help = "By how much the machine's clock was behind the server of the time when that was asked last.";
        page.single("foraker_clock_offset_seconds", "gauge", help, from_us(clock.offset_ns / 1_000));
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
    page.append(starts);
    page.append(ran);
    Ok(())
}

async fn vms(node: &Node, page: &mut Page) -> Result<(), String> {
    let (mut memory, mut ran, mut state) = (Page::default(), Page::default(), Page::default());
    memory.metric("foraker_vm_memory_bytes", "gauge", "Memory that is a VM's own, with page tables and metadata.");
    ran.metric("foraker_vm_cpu_seconds_total", "counter", "Time that a VM ran.");
    state.metric("foraker_vm_state", "gauge", "The state of a VM: 1 for the one that it is in.");
    let (mut walk, mut listed, mut bills) = (Walk::vms(node, 0), 0, Bills::new(seconds));
    while listed < VMS_MAX {
        let mut vms = walk.next().await.map_err(said)?;
        vms.truncate(VMS_MAX - listed);
        if vms.is_empty() {
            break;
        }
        listed += vms.len();
        for vm in vms {
            let labels = {
                let names = node.names.borrow();
                let (name, image) = (names.of(vm.id).unwrap_or_default(), node.image_name(vm.image));
                format!("vm=\"{}\",name=\"{}\",image=\"{}\"", vm.id, label(name), label(&image))
            };
            memory.sample("foraker_vm_memory_bytes", &labels, vm.frames * PAGE_SIZE);
            ran.sample("foraker_vm_cpu_seconds_total", &labels, seconds(vm.ran_ticks));
            bills.add(node, &vm, &labels).await?;
            state.sample("foraker_vm_state", &format!("{labels},state=\"{}\"", vm.state_word()), 1);
        }
    }
    [memory, ran, state].into_iter().for_each(|metric| page.append(metric));
    bills.put(page);
    let mut rest = 0;
    if listed == VMS_MAX
        && let ControlReply::Wakes { living, .. } = node.ask(ControlRequest::Wakes, drop).await.map_err(said)?
    {
        rest = usize::try_from(living).unwrap_or(0).saturating_sub(VMS_MAX);
    }
    page.single("foraker_vms_not_listed", "gauge", "VMs beyond those that have figures of their own.", rest);
    Ok(())
}
