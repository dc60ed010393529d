//! What commands show: as a table for people, or as JSON for programs. The keys of the JSON are stable; `docs/supervisor.md` lists them.

use crate::keep;
use crate::node::Node;
use crate::refusal::said;
use crate::save;
use abi::control::{ControlReply, ControlRequest};
use abi::limits::PAGE_SIZE;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::time::unix_millis;
use serde::Serialize;

#[derive(Serialize)]
struct ShownComponent {
    name: String,
    starts: u32,
    ran_ms: u64,
}

#[derive(Serialize)]
struct ShownToken {
    name: String,
    unix_ms: u64,
    used: u64,
}

#[derive(Default, Serialize)]
struct ShownNode {
    vms: u32,
    vms_admitted: u32,
    vms_out: u32,
    vms_waiting: u32,
    wakes: u64,
    up_ms: u64,
    idle_ms: u64,
    guests_ms: u64,
    components_ms: u64,
    memory_bytes: u64,
    free_bytes: u64,
    unix_ms: u64,
    /// The server by which the clock is kept right.
    ntp_server: Option<String>,
    /// How much later it was there than here, at the last look.
    ntp_offset_us: Option<i64>,
    /// The virtual disk on which this VM keeps what it knows.
    state_disk: Option<String>,
    /// Whether all of that is there.
    state_kept: bool,
    /// Why it is not.
    state_why: Option<String>,
}

/// Ticks in milliseconds.
pub fn milliseconds(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1000 / u128::from(ilwaco::tsc_hz().max(1))).unwrap_or(u64::MAX)
}

/// A value as a line of JSON.
///
/// # Errors
///
/// It has none.
pub fn as_json(value: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|error| format!("{error}"))?;
    Ok(text + "\n")
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

/// `token list`.
///
/// # Errors
///
/// As [`as_json`].
pub fn tokens(node: &Node, json: bool) -> Result<String, String> {
    let tokens = node.tokens.borrow();
    let all: Vec<ShownToken> = tokens
        .iter()
        .map(|(name, made)| ShownToken { name: name.to_string(), unix_ms: made.unix_ms, used: made.used })
        .collect();
    if json {
        return as_json(&all);
    }
    let mut text = "NAME                      MADE ms     USED\n".to_string();
    for ShownToken { name, unix_ms, used } in &all {
        let _ = writeln!(text, "{name:<16} {unix_ms:>16} {used:>8}");
    }
    Ok(text)
}

/// `node show`.
pub async fn node(node: &Node, json: bool) -> Result<String, String> {
    let mut all = ShownNode::default();
    if let ControlReply::Wakes { living, admitted, out, waiting, woken, .. } =
        node.ask(ControlRequest::Wakes, drop).await.map_err(said)?
    {
        all.wakes = woken;
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
    all.unix_ms = unix_millis();
    let clock = node.clock.borrow().clone();
    if clock.answers > 0 {
        all.ntp_server = Some(clock.server.clone());
        all.ntp_offset_us = Some(clock.offset_ns / 1_000);
    }
    let keep::Shown { disk, why, taken } = save::shown(node).await;
    (all.state_disk, all.state_kept, all.state_why) = (disk, why.is_none(), why);
    if json {
        return as_json(&all);
    }
    let state = match (&all.state_why, &all.state_disk, taken) {
        (None, Some(disk), Some((taken, blocks, oldest, last))) => format!(
            "kept on the virtual disk {disk}, {} of {} KiB for names, tokens and quotas; of the audit log lines {oldest} to {last}",
            taken * 4,
            blocks * 4
        ),
        (why, ..) => format!("kept until the operator's VM ends only: {}", why.as_deref().unwrap_or("?")),
    };
    let kept = match all.ntp_offset_us {
        Some(offset_us) => format!("{offset_us} us behind {} when that was last asked", clock.server),
        None => "as the machine's own clock said at its start: no time server has answered (ntp=)".to_string(),
    };
    let ShownNode { vms, vms_admitted, vms_out, vms_waiting, up_ms, .. } = all;
    let (memory, free) = (all.memory_bytes / 1024, all.free_bytes / 1024);
    Ok(format!(
        "VMs      {vms}, of which {vms_admitted} are in, {vms_out} out, {vms_waiting} waiting\n\
         memory   {memory} KiB, of which {free} KiB are free\n\
         up       {up_ms} ms, of which {} ms idle, {} ms in guests, {} ms in components\n\
         clock    {}.{:03} s since 1970, {kept}\n\
         state    {state}\n",
        all.idle_ms,
        all.guests_ms,
        all.components_ms,
        all.unix_ms / 1000,
        all.unix_ms % 1000
    ))
}
